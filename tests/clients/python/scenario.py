"""What a program on the asyncio client does with a server: run by tests/clients.rs."""

import asyncio
import sys

import aetcd


def restart():
    """Asks the test to kill the member and start it again."""
    print("restart", flush=True)
    assert sys.stdin.readline().strip() == "done"


async def keys(client):
    await client.put(b"py/a", b"1")
    await client.put(b"py/b", b"2")
    assert (await client.get(b"py/a")).value == b"1"
    assert await client.get(b"py/missing") is None
    pairs = [(pair.key, pair.value) for pair in await client.get_prefix(b"py/")]
    assert pairs == [(b"py/a", b"1"), (b"py/b", b"2")], pairs
    before = await client.put(b"py/a", b"3", prev_kv=True)
    assert before.prev_kv.value == b"1", before
    assert await client.replace(b"py/a", b"3", b"4")
    assert not await client.replace(b"py/a", b"3", b"5")
    await client.delete(b"py/b")
    assert len(list(await client.get_prefix(b"py/"))) == 1


async def transactions(client):
    txn = client.transactions
    done, answers = await client.transaction(
        compare=[txn.value(b"py/a") == b"4", txn.version(b"py/a") > 1],
        success=[txn.put(b"py/txn", b"yes"), txn.get(b"py/a")],
        failure=[txn.put(b"py/txn", b"no")],
    )
    assert done and answers[1][0][0] == b"4", answers
    done, _ = await client.transaction(
        compare=[txn.create(b"py/txn") == 0], success=[], failure=[txn.delete(b"py/txn")]
    )
    assert not done and await client.get(b"py/txn") is None


async def take(watch, count):
    """So many events of a watch."""
    events = []
    async for event in watch:
        events.append(event)
        if len(events) == count:
            return events


async def watches(client, host, port):
    start = (await client.put(b"py/w/0", b"0")).header.revision
    watch = await client.watch_prefix(b"py/w/", start_revision=start)
    for number in range(1, 4):
        await client.put(b"py/w/%d" % number, b"x")
    await client.delete(b"py/w/2")
    events = await asyncio.wait_for(take(watch, 5), 30)
    assert [event.kv.key for event in events] == [b"py/w/0", b"py/w/1", b"py/w/2", b"py/w/3", b"py/w/2"]
    assert events[4].kind == aetcd.EventKind.DELETE
    await watch.cancel()
    restart()
    # As a program resumes: another connection, from the revision after the last one seen.
    async with aetcd.Client(host=host, port=port, timeout=30) as again:
        await again.put(b"py/w/4", b"x")
        resumed = await again.watch_prefix(b"py/w/", start_revision=events[-1].kv.mod_revision + 1)
        await again.put(b"py/w/5", b"x")
        events = await asyncio.wait_for(take(resumed, 2), 30)
        assert [event.kv.key for event in events] == [b"py/w/4", b"py/w/5"]
        await resumed.cancel()


async def leases(client):
    lease = await client.lease(30)
    await client.put(b"py/leased", b"x", lease=lease)
    assert (await lease.refresh()).TTL == 30
    assert await lease.granted_ttl() == 30
    assert list(await lease.keys()) == [b"py/leased"]
    await lease.revoke()
    assert await client.get(b"py/leased") is None
    short = await client.lease(2)
    watch = await client.watch(b"py/short", start_revision=(await client.put(b"py/short", b"x", lease=short)).header.revision)
    events = await asyncio.wait_for(take(watch, 2), 60)
    assert events[1].kind == aetcd.EventKind.DELETE
    await watch.cancel()


async def locks(client):
    running = most = 0

    async def work():
        nonlocal running, most
        lock = client.lock(b"py/lock", ttl=30)
        assert await lock.acquire(timeout=60)
        running += 1
        most = max(most, running)
        await client.put(b"py/work", b"x")
        running -= 1
        await lock.release()

    await asyncio.wait_for(asyncio.gather(*(work() for _ in range(8))), 120)
    assert most == 1, most


async def maintenance(client):
    status = await client.status()
    assert status.version and status.raft_term > 0
    members = [member async for member in client.members()]
    assert [member.name for member in members] == ["m1"], members
    revision = (await client.put(b"py/c", b"x")).header.revision
    await client.compact(revision, physical=True)
    await client.defragment()


async def main(host, port):
    for step in (keys, transactions, lambda client: watches(client, host, port), leases, locks, maintenance):
        # A step has a connection of its own: the restart ends those before it.
        async with aetcd.Client(host=host, port=port, timeout=30) as client:
            await step(client)


host, port = sys.argv[1].rsplit(":", 1)
asyncio.run(asyncio.wait_for(main(host, int(port)), 300))
