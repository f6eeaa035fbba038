# The program that runs a script on a Windows instance. bootstrap.ps1 reads it from standard
# input, exactly to its end, and calls CcMain. For Windows PowerShell 5.1 and nothing newer; ASCII.
# It speaks the same frames as runner.sh. NOT YET RUN ON WINDOWS: see docs/windows.md.
#
# A run is a directory <base>\<name>, for the user, administrators and the system only:
#   s-*     the script, one file for each starter; only the winner's is executed
#   p-*     this program, for the supervisor that a starter starts
#   o, e    what the script wrote to stdout and stderr
#   sup     "pid starttime boot token" of the supervisor; creating it exclusively claims the run
#   cancel  somebody wants the run cancelled;        end  whoever creates it writes the result
#   result  "ending exit_code left", renamed into place, first and only
# and <base>\done\<name> is the tombstone that keeps an acknowledged run from running again.
#
# The supervisor is a process outside of the job of the SSH session. It holds the only handle of a
# job object of its own, in which the script runs from its first instruction: if the supervisor
# dies, Windows ends the script and everything it started. So "lost" means "ended" here.

$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'

$ccSource = @'
using System;
using System.Runtime.InteropServices;
using System.Text;

public static class CcNative {
  [StructLayout(LayoutKind.Sequential)]
  struct Security { public int Length; public IntPtr Descriptor; public int Inherit; }

  [StructLayout(LayoutKind.Sequential, CharSet = CharSet.Unicode)]
  struct Startup {
    public int Size; public string Reserved; public string Desktop; public string Title;
    public int X; public int Y; public int XSize; public int YSize;
    public int XChars; public int YChars; public int Fill; public int Flags;
    public short Show; public short More; public IntPtr MoreBytes;
    public IntPtr Input; public IntPtr Output; public IntPtr Error;
  }

  [StructLayout(LayoutKind.Sequential)]
  struct Made { public IntPtr Process; public IntPtr Thread; public int ProcessId; public int ThreadId; }

  [StructLayout(LayoutKind.Sequential)]
  struct Limits {
    public long ProcessTime; public long JobTime; public uint Flags;
    public UIntPtr Least; public UIntPtr Most; public uint Active; public UIntPtr Affinity;
    public uint Priority; public uint Scheduling;
    public ulong Reads; public ulong Writes; public ulong Others;
    public ulong ReadBytes; public ulong WrittenBytes; public ulong OtherBytes;
    public UIntPtr ProcessMemory; public UIntPtr JobMemory;
    public UIntPtr PeakProcess; public UIntPtr PeakJob;
  }

  [StructLayout(LayoutKind.Sequential)]
  struct Counts {
    public long User; public long Kernel; public long PeriodUser; public long PeriodKernel;
    public uint Faults; public uint Total; public uint Active; public uint Terminated;
  }

  [DllImport("kernel32.dll", SetLastError = true, CharSet = CharSet.Unicode)]
  static extern bool CreateProcessW(string application, StringBuilder command, IntPtr process,
    IntPtr thread, bool inherit, uint flags, IntPtr environment, string directory,
    ref Startup startup, out Made made);
  [DllImport("kernel32.dll", SetLastError = true, CharSet = CharSet.Unicode)]
  static extern IntPtr CreateFileW(string path, uint access, uint share, ref Security security,
    uint disposition, uint flags, IntPtr template);
  [DllImport("kernel32.dll", SetLastError = true, CharSet = CharSet.Unicode)]
  static extern IntPtr CreateJobObjectW(IntPtr security, string name);
  [DllImport("kernel32.dll", SetLastError = true)]
  static extern bool SetInformationJobObject(IntPtr job, int kind, ref Limits limits, int size);
  [DllImport("kernel32.dll", SetLastError = true)]
  static extern bool QueryInformationJobObject(IntPtr job, int kind, out Counts counts, int size,
    IntPtr told);
  [DllImport("kernel32.dll", SetLastError = true)]
  static extern bool AssignProcessToJobObject(IntPtr job, IntPtr process);
  [DllImport("kernel32.dll", SetLastError = true)]
  static extern bool TerminateJobObject(IntPtr job, uint code);
  [DllImport("kernel32.dll", SetLastError = true)]
  static extern bool TerminateProcess(IntPtr process, uint code);
  [DllImport("kernel32.dll", SetLastError = true)]
  static extern uint ResumeThread(IntPtr thread);
  [DllImport("kernel32.dll", SetLastError = true)]
  static extern uint WaitForSingleObject(IntPtr handle, uint milliseconds);
  [DllImport("kernel32.dll", SetLastError = true)]
  static extern bool GetExitCodeProcess(IntPtr process, out uint code);
  [DllImport("kernel32.dll", SetLastError = true)]
  static extern bool CloseHandle(IntPtr handle);

  const uint Suspended = 0x4, NewGroup = 0x200, Breakaway = 0x1000000, NoWindow = 0x8000000;
  const uint KillOnClose = 0x2000;
  static readonly IntPtr Bad = new IntPtr(-1);
  static IntPtr job;
  static Made script;

  static Startup NewStartup() {
    Startup startup = new Startup();
    startup.Size = Marshal.SizeOf(typeof(Startup));
    return startup;
  }

  // The id of a process outside of our job that inherited no handle, or minus an error's number.
  public static int Detach(string command, string directory) {
    Startup startup = NewStartup();
    Made made;
    if (!CreateProcessW(null, new StringBuilder(command), IntPtr.Zero, IntPtr.Zero, false,
        Breakaway | NewGroup | NoWindow, IntPtr.Zero, directory, ref startup, out made))
      return -Marshal.GetLastWin32Error();
    CloseHandle(made.Thread);
    CloseHandle(made.Process);
    return made.ProcessId;
  }

  static IntPtr Open(string path, uint access, uint disposition) {
    Security security = new Security();
    security.Length = Marshal.SizeOf(typeof(Security));
    security.Inherit = 1;
    return CreateFileW(path, access, 7, ref security, disposition, 0, IntPtr.Zero);
  }

  static bool Limit(uint flags) {
    Limits limits = new Limits();
    limits.Flags = flags;
    return SetInformationJobObject(job, 9, ref limits, Marshal.SizeOf(typeof(Limits)));
  }

  // The script in a new job, not running yet. 0, or an error's number: then nothing is left of it.
  public static int Prepare(string command, string directory, string stdout, string stderr) {
    job = CreateJobObjectW(IntPtr.Zero, null);
    if (job == IntPtr.Zero || !Limit(KillOnClose)) return Failed();
    Startup startup = NewStartup();
    startup.Flags = 0x100;
    startup.Input = Open("NUL", 0x80000000, 3);
    // Appending only, so that nobody who holds it can write over what was written.
    startup.Output = Open(stdout, 0x120114, 4);
    startup.Error = Open(stderr, 0x120114, 4);
    if (startup.Input == Bad || startup.Output == Bad || startup.Error == Bad) return Failed();
    if (!CreateProcessW(null, new StringBuilder(command), IntPtr.Zero, IntPtr.Zero, true,
        Suspended | NewGroup | NoWindow, IntPtr.Zero, directory, ref startup, out script))
      return Failed();
    CloseHandle(startup.Input);
    CloseHandle(startup.Output);
    CloseHandle(startup.Error);
    if (AssignProcessToJobObject(job, script.Process)) return 0;
    int code = Failed();
    TerminateProcess(script.Process, 1);
    return code;
  }

  static int Failed() {
    int code = Marshal.GetLastWin32Error();
    return code == 0 ? 1 : code;
  }

  public static void Resume() { ResumeThread(script.Thread); }

  public static bool Wait(int milliseconds) {
    return WaitForSingleObject(script.Process, (uint)milliseconds) == 0;
  }

  public static uint ExitCode() {
    uint code;
    GetExitCodeProcess(script.Process, out code);
    return code;
  }

  // How many processes of the job live; -1 where Windows does not say.
  public static int Active() {
    Counts counts;
    if (!QueryInformationJobObject(job, 1, out counts, Marshal.SizeOf(typeof(Counts)), IntPtr.Zero))
      return -1;
    return (int)counts.Active;
  }

  public static void KillAll() { TerminateJobObject(job, 1); }

  public static void KillOne() { TerminateProcess(script.Process, 1); }

  // Let what the script started live on when this process, and with it the job's handle, ends.
  public static void Release() { Limit(0); }
}
'@

function CcFrame([string]$words, $stream = $ccOut) {
  $bytes = [Text.Encoding]::ASCII.GetBytes("$([char]30)$ccNonce $words`n")
  $stream.Write($bytes, 0, $bytes.Length)
  $stream.Flush()
}

function CcDecode([string]$text) {
  [Text.Encoding]::UTF8.GetString([Convert]::FromBase64String($text))
}

function CcIs([string]$name) { [IO.File]::Exists("$ccDir\$name") }

function CcIsDone { [IO.File]::Exists("$ccBase\done\$ccName") }

# CcExclusive PATH TEXT: creates the file with the text unless it exists.
function CcExclusive([string]$path, [string]$text) {
  try { $file = New-Object IO.FileStream $path, 'CreateNew', 'Write', 'ReadWrite, Delete' }
  catch { return $false }
  try {
    $bytes = [Text.Encoding]::ASCII.GetBytes("$text`n")
    $file.Write($bytes, 0, $bytes.Length)
    $file.Flush($true)
  }
  finally { $file.Dispose() }
  $true
}

# CcWords NAME: the words of a small file of the run; none before it is whole.
function CcWords([string]$name) {
  try { $file = New-Object IO.FileStream "$ccDir\$name", 'Open', 'Read', 'ReadWrite, Delete' }
  catch { return }
  try { $text = (New-Object IO.StreamReader $file).ReadToEnd() }
  finally { $file.Dispose() }
  if ($text.EndsWith("`n")) { $text.Trim() -split ' +' }
}

function CcTouch([string]$name) {
  $file = New-Object IO.FileStream "$ccDir\$name", 'OpenOrCreate', 'Write', 'ReadWrite, Delete'
  $file.Dispose()
}

function CcOurs { $ccSid, 'S-1-5-18', 'S-1-5-32-544' }

# CcSecure: access for the user, the system and administrators, and for nobody else.
function CcSecure {
  $acl = New-Object Security.AccessControl.DirectorySecurity
  $acl.SetAccessRuleProtection($true, $false)
  foreach ($one in CcOurs) {
    $who = New-Object Security.Principal.SecurityIdentifier $one
    $rule = New-Object Security.AccessControl.FileSystemAccessRule $who, 'FullControl', 'ContainerInherit, ObjectInherit', 'None', 'Allow'
    $acl.AddAccessRule($rule)
  }
  $acl
}

# CcTrusted: the base is a directory of ours into which nobody else can look. Anybody may have
# made one of that name before us.
function CcTrusted {
  $item = New-Object IO.DirectoryInfo $ccBase
  if (-not $item.Exists) { return $false }
  if ($item.Attributes -band [IO.FileAttributes]::ReparsePoint) { return $false }
  $kind = [Security.Principal.SecurityIdentifier]
  $acl = $item.GetAccessControl()
  $ours = CcOurs
  if ($ours -notcontains $acl.GetOwner($kind).Value) { return $false }
  foreach ($rule in $acl.GetAccessRules($true, $true, $kind)) {
    if ("$($rule.AccessControlType)" -ne 'Allow') { continue }
    if ($ours -notcontains $rule.IdentityReference.Value) { return $false }
  }
  $true
}

# CcMake: the base and the place for tombstones, fit to be used.
function CcMake {
  try {
    if ($ccBase -cnotmatch '^[A-Za-z]:\\[A-Za-z0-9 ._\\-]{1,200}$') { return $false }
    [void][IO.Directory]::CreateDirectory($ccBase, (CcSecure))
    if (-not (CcTrusted)) { return $false }
    [void][IO.Directory]::CreateDirectory("$ccBase\done")
    $true
  }
  catch { $false }
}

function CcDelete([string]$path) {
  for ($i = 0; $i -lt 20 -and [IO.Directory]::Exists($path); $i++) {
    try { [IO.Directory]::Delete($path, $true) }
    catch { Start-Sleep -Milliseconds 100 }
  }
}

function CcBoot {
  try { (Get-CimInstance Win32_OperatingSystem).LastBootUpTime.ToFileTimeUtc() }
  catch { '-' }
}

# CcRestarted: Windows was started anew since the run was claimed. Its boot time moves a little
# whenever the clock is set.
function CcRestarted {
  $sup = @(CcWords 'sup')
  $now = CcBoot
  if ($sup.Count -lt 4 -or $sup[2] -eq '-' -or $now -eq '-') { return $false }
  [Math]::Abs([long]$now - [long]$sup[2]) -gt 1200000000
}

# CcAlive: the supervisor that claimed this run is running (same process, same start).
function CcAlive {
  $sup = @(CcWords 'sup')
  if ($sup.Count -lt 4) { return $false }
  try {
    $process = [Diagnostics.Process]::GetProcessById([int]$sup[0])
    try { (-not $process.HasExited) -and ("$($process.StartTime.ToFileTimeUtc())" -eq $sup[1]) }
    finally { $process.Dispose() }
  }
  catch { $false }
}

function CcBlock([string]$text, [string]$how) {
  $bytes = [Text.Encoding]::ASCII.GetBytes($text.PadRight(63) + "`n")
  $file = New-Object IO.FileStream "$ccDir\r", $how, 'Write', 'Read, Delete'
  try {
    $file.Write($bytes, 0, $bytes.Length)
    $file.Flush($true)
  }
  finally { $file.Dispose() }
}

# CcFinish ENDING EXIT LEFT: the block was written before the script began, so that this works
# on a full disk too.
function CcFinish([string]$ending, [string]$exitCode, [string]$left) {
  if (CcIs 'result') { return }
  CcBlock "$ending $exitCode $left" 'OpenOrCreate'
  # Whatever scans files may hold this one for a moment.
  for ($i = 0; $i -lt 40 -and -not (CcIs 'result'); $i++) {
    try { [IO.File]::Move("$ccDir\r", "$ccDir\result") }
    catch { Start-Sleep -Milliseconds 50 }
  }
}

# CcSettle: the supervisor is gone and left no result. Its processes ended with it, but nobody
# has counted them.
function CcSettle {
  if (-not (CcExclusive "$ccDir\end" 'lost')) {
    for ($i = 0; $i -lt 50 -and -not (CcIs 'result'); $i++) { Start-Sleep -Milliseconds 100 }
  }
  if (CcIs 'result') { return }
  $why = 'lost'
  $end = @(CcWords 'end')
  if ($end.Count -gt 0 -and 'cancel', 'timeout' -contains $end[0]) { $why = $end[0] }
  elseif (CcRestarted) { $why = 'rebooted' }
  CcFinish $why '-' '-'
}

# --- the supervisor --------------------------------------------------------------------------

# CcEndAll: ends the script's processes; how many are left, counted by Windows after the kill.
function CcEndAll {
  if ($ccSingle) {
    [CcNative]::KillOne()
    $ended = [CcNative]::Wait(10000)
    [CcNative]::Release()
    if ($ended) { return '-' }
    return '1'
  }
  for ($i = 0; $i -lt 200; $i++) {
    [CcNative]::KillAll()
    $left = [CcNative]::Active()
    if ($left -eq 0) { break }
    Start-Sleep -Milliseconds 50
  }
  if ($left -lt 0) { return '-' }
  "$left"
}

function CcWatch {
  $clock = [Diagnostics.Stopwatch]::StartNew()
  while (-not [CcNative]::Wait(100)) {
    if (CcIs 'cancel') { return 'cancel' }
    if ($clock.Elapsed.TotalSeconds -ge $ccTimeout) { return 'timeout' }
  }
  'exit'
}

# CcSupervise: claims the run, runs the script, writes how it ended.
function CcSupervise {
  Add-Type -TypeDefinition $ccSource -IgnoreWarnings
  $me = [Diagnostics.Process]::GetCurrentProcess()
  $claim = "$($me.Id) $($me.StartTime.ToFileTimeUtc()) $(CcBoot) $ccToken"
  if (-not (CcExclusive "$ccDir\sup" $claim)) { return }
  if (CcIsDone) {
    CcDelete $ccDir
    return
  }
  CcBlock 'none' 'Create'
  $env:COMMAND_CONSOLE_RUN = $ccId
  $failed = [CcNative]::Prepare((CcCommand $ccToken), (CcDirectory), "$ccDir\o", "$ccDir\e")
  if ($failed -ne 0) {
    if (CcExclusive "$ccDir\end" 'unstarted') { CcFinish 'unstarted' "$failed" '0' }
    return
  }
  # Whoever ended the run meanwhile has made one of these two; the job dies with this process.
  if (CcIs 'end') { return }
  $why = 'cancel'
  if (-not (CcIs 'cancel')) {
    [CcNative]::Resume()
    $why = CcWatch
  }
  if (-not (CcExclusive "$ccDir\end" $why)) { return }
  if ($why -ne 'exit') {
    CcFinish $why '-' (CcEndAll)
    return
  }
  CcFinish 'exit' "$([CcNative]::ExitCode())" '-'
  [CcNative]::Release()
}

# --- starting --------------------------------------------------------------------------------

function CcDirectory {
  if ($ccWorkdir) { return $ccWorkdir }
  if ([IO.Directory]::Exists($env:USERPROFILE)) { return $env:USERPROFILE }
  [Environment]::SystemDirectory
}

function CcInterpreter {
  if ($ccLanguage -eq 'bat') { return [Environment]::SystemDirectory + '\cmd.exe' }
  "$PSHOME\powershell.exe"
}

# CcCommand TOKEN: the command line of the script of one starter. The base has plain characters
# only, so nothing in it needs more than the quotes.
function CcCommand([string]$token) {
  $program = CcInterpreter
  if ($ccLanguage -eq 'bat') { return "`"$program`" /d /s /c `"call `"$ccDir\s-$token.bat`"`"" }
  "`"$program`" -NoProfile -NonInteractive -OutputFormat Text -ExecutionPolicy Bypass -File `"$ccDir\s-$token.ps1`""
}

# CcBytes: the script as its interpreter reads it; nothing where the code page has not all of its
# characters. cmd reads the system's OEM code page, PowerShell 5.1 UTF-8 only after a mark.
function CcBytes {
  $text = $ccScript
  if ($ccLanguage -eq 'bat') {
    $page = (Get-ItemProperty 'HKLM:\SYSTEM\CurrentControlSet\Control\Nls\CodePage').OEMCP
    $encoding = [Text.Encoding]::GetEncoding([int]$page)
    $bytes = $encoding.GetBytes($text)
    if (-not [string]::Equals($encoding.GetString($bytes), $text, 'Ordinal')) { return }
    return , $bytes
  }
  $utf8 = New-Object Text.UTF8Encoding $true
  , ([byte[]]($utf8.GetPreamble() + $utf8.GetBytes($text)))
}

function CcPrepare([string]$token) {
  $bytes = CcBytes
  if ($null -eq $bytes) { return 'CodePage' }
  $ending = 'ps1'
  if ($ccLanguage -eq 'bat') { $ending = 'bat' }
  try {
    if (-not (CcMake)) { return 'ProgramDataUnusable' }
    [void][IO.Directory]::CreateDirectory($ccDir)
    [IO.File]::WriteAllBytes("$ccDir\s-$token.$ending", $bytes)
    [IO.File]::WriteAllText("$ccDir\p-$token.ps1", $ccText)
    CcTouch 'o'
    CcTouch 'e'
  }
  catch { 'ProgramDataUnusable' }
}

# CcLaunch TOKEN: the id of the supervisor, outside of this session; 0 if there is no way.
function CcLaunch([string]$token) {
  $small = "`$ErrorActionPreference='Stop';`$ccToken='$token';`$ccText=[IO.File]::ReadAllText('$ccDir\p-$token.ps1');. ([ScriptBlock]::Create(`$ccText));CcSet;CcSupervise"
  $encoded = [Convert]::ToBase64String([Text.Encoding]::Unicode.GetBytes($small))
  $command = "`"$PSHOME\powershell.exe`" -NoProfile -NonInteractive -InputFormat None -OutputFormat Text -ExecutionPolicy Bypass -EncodedCommand $encoded"
  $made = [CcNative]::Detach($command, [Environment]::SystemDirectory)
  if ($made -gt 0) { return $made }
  try {
    $arguments = @{ CommandLine = $command; CurrentDirectory = [Environment]::SystemDirectory }
    $answer = Invoke-CimMethod -ClassName Win32_Process -MethodName Create -Arguments $arguments
    if ($answer.ReturnValue -eq 0) { return [int]$answer.ProcessId }
  }
  catch { return 0 }
  0
}

function CcRuns([int]$id) {
  try {
    $process = [Diagnostics.Process]::GetProcessById($id)
    -not $process.HasExited
  }
  catch { $false }
}

# CcAwait ID TOKEN: 1 if our supervisor claimed the run, 0 if another did; nothing if it ended
# without, and -1 if that takes too long to tell.
function CcAwait([int]$id, [string]$token) {
  $clock = [Diagnostics.Stopwatch]::StartNew()
  while ($clock.Elapsed.TotalSeconds -lt 45) {
    $runs = CcRuns $id
    if (CcIsDone) { return 0 }
    $sup = @(CcWords 'sup')
    if ($sup.Count -ge 4) { return [int]($sup[3] -ceq $token) }
    if (-not $runs) { return }
    Start-Sleep -Milliseconds 20
  }
  -1
}

function CcAbout([int]$fresh) {
  $machine = '-'
  try { $machine = (Get-ItemProperty 'HKLM:\SOFTWARE\Microsoft\Cryptography').MachineGuid }
  catch { $machine = '-' }
  CcFrame "started $fresh $(CcBoot) $machine $([Environment]::MachineName) $ccBase"
}

function CcStart {
  if ((CcIsDone) -or (CcIs 'sup')) {
    CcAbout 0
    CcConverse
    return
  }
  if ($ccWorkdir -and -not [IO.Directory]::Exists($ccWorkdir)) {
    CcFrame 'refused DirectoryNotExists'
    return
  }
  if (-not [IO.File]::Exists((CcInterpreter))) {
    CcFrame 'refused NoInterpreter'
    return
  }
  try { Add-Type -TypeDefinition $ccSource -IgnoreWarnings }
  catch {
    CcFrame 'refused AddTypeFailed'
    return
  }
  $token = [Guid]::NewGuid().ToString('N')
  $refusal = CcPrepare $token
  if ($refusal) {
    CcFrame "refused $refusal"
    return
  }
  $supervisor = CcLaunch $token
  if ($supervisor -eq 0) {
    CcFrame 'refused NotDetached'
    return
  }
  $fresh = CcAwait $supervisor $token
  if ($null -eq $fresh) {
    CcFrame 'refused NoSupervisor'
    return
  }
  # Without an answer the console asks again, and finds out.
  if ($fresh -lt 0) { return }
  CcAbout $fresh
  CcConverse
}

# --- following, ending, forgetting -----------------------------------------------------------

function CcOpen([string]$name, [long]$offset) {
  if (-not (CcIs $name)) { return }
  $file = New-Object IO.FileStream "$ccDir\$name", 'Open', 'Read', 'ReadWrite, Delete'
  $file.Position = $offset
  $file
}

# CcCopy FILE STREAM: sends what the file holds by now; whether that was anything.
function CcCopy($file, $stream) {
  $until = $file.Length
  if ($file.Position -ge $until) { return $false }
  while ($file.Position -lt $until) {
    $most = [Math]::Min([long]$ccBuffer.Length, $until - $file.Position)
    $count = $file.Read($ccBuffer, 0, [int]$most)
    if ($count -le 0) { break }
    $stream.Write($ccBuffer, 0, $count)
  }
  $stream.Flush()
  $true
}

# CcStream: sends both files from where they are open until the run is over.
function CcStream($fromOut, $fromErr) {
  $turn = 0
  $alive = $true
  do {
    # Whether it is over is asked first: what was written before that is sent after.
    if ($turn % 10 -eq 0) { $alive = CcAlive }
    $over = (CcIs 'result') -or -not $alive
    $moved = CcCopy $fromOut $ccOut
    $moved = (CcCopy $fromErr $ccErr) -or $moved
    $turn++
    # Somebody who has gone is noticed only when something is written.
    if ($turn % 100 -eq 0) { CcFrame 'beat' }
    if (-not $over -and -not $moved) { Start-Sleep -Milliseconds 40 }
  } until ($over)
}

function CcFollow([long]$out, [long]$err) {
  if ((CcIsDone) -or -not (CcIs 'sup')) {
    CcFrame 'gone'
    return
  }
  for ($i = 0; $i -lt 30 -and @(CcWords 'sup').Count -lt 4; $i++) { Start-Sleep -Milliseconds 100 }
  CcTouch 'o'
  CcTouch 'e'
  $fromOut = CcOpen 'o' $out
  $fromErr = CcOpen 'e' $err
  try {
    CcFrame 'flow'
    CcFrame 'flow' $ccErr
    CcStream $fromOut $fromErr
    CcFrame 'end'
    CcFrame 'end' $ccErr
    $sizes = "$($fromOut.Position) $($fromErr.Position)"
  }
  finally {
    $fromOut.Dispose()
    $fromErr.Dispose()
  }
  if (-not (CcIs 'result')) { CcSettle }
  $result = @(CcWords 'result')
  if ($result.Count -lt 3) { $result = 'lost', '-', '-' }
  CcFrame "result $($result[0]) $($result[1]) $($result[2]) $sizes"
}

function CcCancel {
  if (CcIsDone) {
    CcFrame 'cancelled 0'
    return
  }
  if (-not (CcMake)) {
    CcFrame 'refused ProgramDataUnusable'
    return
  }
  [void][IO.Directory]::CreateDirectory($ccDir)
  if (CcExclusive "$ccDir\sup" "0 0 $(CcBoot) -") {
    CcTouch 'o'
    CcTouch 'e'
    if (CcExclusive "$ccDir\end" 'cancel') { CcFinish 'cancel' '-' '0' }
  }
  if (-not (CcIs 'result')) { CcTouch 'cancel' }
  for ($i = 0; $i -lt 2400 -and -not (CcIs 'result'); $i++) {
    if ($i -gt 40 -and -not (CcAlive)) { break }
    Start-Sleep -Milliseconds 50
  }
  if (-not (CcIs 'result') -and -not (CcAlive)) {
    [void](CcExclusive "$ccDir\end" 'cancel')
    CcSettle
  }
  $result = @(CcWords 'result')
  if ($result.Count -lt 3) { $result = '-', '-', '-' }
  CcFrame "cancelled $($result[2])"
}

function CcAcknowledge([string]$how) {
  if (-not (CcMake)) {
    CcFrame 'refused ProgramDataUnusable'
    return
  }
  [IO.File]::WriteAllText("$ccBase\done\$ccName", '')
  CcDelete $ccDir
  if ($how -eq 'sweep') { CcSweep }
  CcFrame 'acknowledged'
}

# CcSweep: directories that could not be removed in their time, and tombstones of 60 days ago.
function CcSweep {
  $old = [DateTime]::UtcNow.AddDays(-60)
  foreach ($file in (New-Object IO.DirectoryInfo "$ccBase\done").GetFiles()) {
    try {
      if ([IO.Directory]::Exists("$ccBase\$($file.Name)")) {
        [IO.Directory]::Delete("$ccBase\$($file.Name)", $true)
      }
      if ($file.LastWriteTimeUtc -lt $old) { $file.Delete() }
    }
    catch { continue }
  }
}

# CcLine: the next line of standard input; nothing at its end.
function CcLine {
  $line = ''
  while ($true) {
    $byte = $ccIn.ReadByte()
    if ($byte -lt 0) { return }
    if ($byte -eq 10) { return $line }
    $line += [char]$byte
  }
}

# CcConverse: the channel stays for what follows.
function CcConverse {
  while ($true) {
    $line = CcLine
    if ($null -eq $line) { return }
    $words = @($line -split ' ')
    if ($words[0] -eq 'follow') { CcFollow ([long]$words[1]) ([long]$words[2]) }
    elseif ($words[0] -eq 'acknowledge') { CcAcknowledge $words[1] }
    else { return }
  }
}

function CcSystem {
  $name = ''
  try { $name = (Get-ItemProperty 'HKLM:\SOFTWARE\Microsoft\Windows NT\CurrentVersion').ProductName }
  catch { $name = '' }
  CcFrame "system $name"
}

# CcSet: where the run is, and the values that the console sent with this program.
function CcSet {
  CcParameters
  $global:ccSid = [Security.Principal.WindowsIdentity]::GetCurrent().User.Value
  if (-not $ccBase) {
    $data = [Environment]::GetFolderPath('CommonApplicationData')
    $global:ccBase = "$data\CommandConsole.$ccSid"
  }
  $global:ccDir = "$ccBase\$ccName"
  $global:ccBuffer = New-Object byte[] 32768
}

function CcMain {
  $global:ccOut = [Console]::OpenStandardOutput()
  $global:ccErr = [Console]::OpenStandardError()
  CcSet
  CcFrame 'hello'
  switch ($ccOperation) {
    'start' { CcStart }
    'converse' { CcConverse }
    'cancel' { CcCancel }
    'system' { CcSystem }
  }
  exit 0
}
