# What the command line on a Windows instance holds, encoded: always the same, and no secret.
# It reads a header of 46 bytes and then exactly as many bytes as that says, and only then runs
# them: of a program that arrives in part, nothing runs. PowerShell itself reads standard input
# only for a command that names its variable for that, so this one must not; nor is it to look,
# hence -InputFormat None beside this.
$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'
$ccIn = [Console]::OpenStandardInput()
function CcTake($count) {
  $bytes = New-Object byte[] $count
  $have = 0
  while ($have -lt $count) {
    $reading = $ccIn.ReadAsync($bytes, $have, $count - $have)
    if (-not $reading.Wait(20000)) { return }
    if ($reading.Result -eq 0) { return }
    $have += $reading.Result
  }
  , $bytes
}
$ccText = ''
$ccBytes = CcTake 46
if ($null -ne $ccBytes) { $ccText = [Text.Encoding]::ASCII.GetString($ccBytes) }
if (-not ($ccText -cmatch '^CC1 ([0-9a-f]{32}) ([0-9]{8})\n$')) {
  [Console]::Error.WriteLine('command-console: no program on standard input')
  exit 113
}
$ccNonce = $Matches[1]
$ccBytes = CcTake ([int]$Matches[2])
if ($null -eq $ccBytes) { exit 114 }
$ccText = [Text.Encoding]::ASCII.GetString($ccBytes)
. ([ScriptBlock]::Create($ccText))
CcMain
