"""Python libraries as peers. Runs in their environment: ``peer_library.py asyncssh < request``.

Connects to every host, runs a command, runs it again on the same connections; says how long each
took. Hosts are served at the same time. Imports and interpreter start are not counted.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any


def measure_asyncssh(request: dict[str, Any]) -> dict[str, Any]:
    import asyncio

    import asyncssh

    async def connect(address: str) -> asyncssh.SSHClientConnection:
        return await asyncssh.connect(
            address,
            request["port"],
            username=request["user"],
            client_keys=[request["key"]],
            known_hosts=request["known_hosts"],
            agent_path=None,
            config=None,
            kex_algs=["curve25519-sha256"],
        )

    async def everywhere() -> dict[str, Any]:
        connections: list[asyncssh.SSHClientConnection] = []

        async def first(address: str) -> str:
            connection = await connect(address)
            connections.append(connection)
            return await again(connection)

        async def again(connection: asyncssh.SSHClientConnection) -> str:
            return str((await connection.run(request["command"])).stdout)

        began = time.perf_counter()
        cold = await asyncio.gather(*(first(each) for each in request["addresses"]))
        between = time.perf_counter()
        warm = await asyncio.gather(*(again(each) for each in connections))
        ended = time.perf_counter()
        for each in connections:
            each.abort()
        return {
            "cold": between - began,
            "warm": ended - between,
            "outputs": ["".join(cold), "".join(warm)],
        }

    return asyncio.run(everywhere())


def measure_parallel_ssh(request: dict[str, Any]) -> dict[str, Any]:
    from pssh.clients import ParallelSSHClient

    client = ParallelSSHClient(
        request["addresses"],
        port=request["port"],
        user=request["user"],
        pkey=request["key"],
        pool_size=len(request["addresses"]),
        allow_agent=False,
    )

    def everywhere() -> tuple[float, str]:
        began = time.perf_counter()
        answers = client.run_command(request["command"])
        client.join(answers)
        lines = [line for each in answers for line in each.stdout]
        return time.perf_counter() - began, "\n".join(lines)

    cold, first = everywhere()
    warm, second = everywhere()
    return {"cold": cold, "warm": warm, "outputs": [first, second]}


def main() -> None:
    measure = {"asyncssh": measure_asyncssh, "parallel-ssh": measure_parallel_ssh}[sys.argv[1]]
    json.dump(measure(json.load(sys.stdin)), sys.stdout)


if __name__ == "__main__":
    main()
