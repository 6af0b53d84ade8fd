// What a program on Node's client does with a server: run by tests/clients.rs.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';

// The packages lie in the build folder.
const { Etcd3 } = createRequire(`${process.argv[3]}/`)('etcd3');

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
/** Asks the test to kill the member and start it again. */
async function restart() {
  console.log('restart');
  assert.equal((await lines.next()).value, 'done');
}

/** Awaits something, but not without end. */
function within(promise, what) {
  let timer;
  const late = new Promise((_, fail) => {
    timer = setTimeout(() => fail(new Error(`${what} took too long`)), 60_000);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** Calls until it succeeds. */
async function retry(call) {
  for (;;) {
    try {
      return await call();
    } catch {
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}

const client = new Etcd3({ hosts: `http://${process.argv[2]}` });

async function keys() {
  await client.put('js/a').value('1');
  await client.put('js/b').value('2');
  assert.equal(await client.get('js/a').string(), '1');
  assert.equal(await client.get('js/missing').string(), null);
  assert.deepEqual(await client.getAll().prefix('js/').strings(), { 'js/a': '1', 'js/b': '2' });
  assert.deepEqual(await client.getAll().prefix('js/').sort('Key', 'Descend').limit(1).keys(), ['js/b']);
  await client.delete().key('js/b');
  assert.equal(await client.getAll().prefix('js/').count(), 1);
}

async function transactions() {
  const first = await client.if('js/a', 'Value', '==', '1').then(client.put('js/a').value('3')).else(client.get('js/a')).commit();
  assert.equal(first.succeeded, true);
  const second = await client.if('js/a', 'Value', '==', '1').then(client.put('js/a').value('4')).else(client.get('js/a')).commit();
  assert.equal(second.succeeded, false);
  assert.equal(second.responses[0].response_range.kvs[0].value.toString(), '3');
  const swapped = await client.stm().transact(async (tx) => tx.put('js/a').value(`${await tx.get('js/a')}!`));
  assert.ok(swapped);
  assert.equal(await client.get('js/a').string(), '3!');
}

/** The watcher resumes by itself when its member comes back. */
async function watches() {
  const watcher = await client.watch().prefix('js/w/').create();
  const seen = [];
  let wake = () => {};
  const note = (kind) => (pair) => {
    seen.push(`${kind} ${pair.key}`);
    wake();
  };
  watcher.on('put', note('put')).on('delete', note('delete'));
  const until = async (expected) => {
    await within((async () => {
      while (seen.length < expected.length) await new Promise((resolve) => (wake = resolve));
    })(), 'the watch');
    assert.deepEqual(seen, expected);
  };
  await client.put('js/w/1').value('x');
  await client.delete().key('js/w/1');
  await until(['put js/w/1', 'delete js/w/1']);
  await restart();
  // Its calls fail until it has connected again; the put is one that may happen twice.
  await within(retry(() => client.put('js/w/2').value('x')), 'the connection');
  await within((async () => {
    while (!seen.includes('put js/w/2')) await new Promise((resolve) => (wake = resolve));
  })(), 'the resumed watch');
  assert.deepEqual([...new Set(seen)], ['put js/w/1', 'delete js/w/1', 'put js/w/2']);
  await watcher.cancel();
}

async function leases() {
  const lease = client.lease(30);
  await lease.put('js/leased').value('x');
  const renewed = await lease.keepaliveOnce();
  assert.equal(renewed.TTL, '30');
  assert.equal(await client.get('js/leased').string(), 'x');
  await lease.revoke();
  assert.equal(await client.get('js/leased').string(), null);
  const short = client.lease(2, { autoKeepAlive: false });
  const watcher = await client.watch().key('js/short').create();
  const gone = once(watcher, 'delete');
  await short.put('js/short').value('x');
  await within(gone, 'the end of a lease');
  await watcher.cancel();
}

async function locks() {
  await client.lock('js/lock').do(async () => {
    await assert.rejects(client.lock('js/lock').acquire(), /lock/i);
  });
  const lock = client.lock('js/lock');
  await lock.acquire();
  await lock.release();
}

async function elections() {
  const election = client.election('js-office', 10);
  const observer = await election.observe();
  let wake = () => {};
  observer.on('change', () => wake());
  const until = (leader) => within((async () => {
    while (observer.leader() !== leader) await new Promise((resolve) => (wake = resolve));
  })(), `the leader ${leader}`);
  const first = election.campaign('one');
  await within(first.wait(), 'the election');
  await until('one');
  // Only now: this observer takes the last of several candidates that it learns of at once.
  const second = election.campaign('two');
  await first.proclaim('one again');
  await until('one again');
  await first.resign();
  await within(second.wait(), 'the second');
  await until('two');
  await second.resign();
  await observer.cancel();
}

async function maintenance() {
  const status = await client.maintenance.status();
  assert.ok(status.version);
  const { members } = await client.cluster.memberList({});
  assert.deepEqual(members.map((member) => member.name), ['m1']);
}

for (const step of [keys, transactions, watches, leases, locks, elections, maintenance]) {
  await within(step(), step.name);
}
client.close();
process.exit(0);
