// Prints what a pool answers to a task that comes while its only worker is still being prepared.

globalThis.document = { getElementById: () => null };
globalThis.Worker = class {
  postMessage({ id, values }) {
    setTimeout(() => this.onmessage({ data: { id, result: values } }), 20);
  }

  terminate() {}
};

const { Pool } = await import('../../viewer/app/remote.js');
const pool = new Pool(1, (remote) => Promise.resolve().then(() => remote.call('prior')));
pool.warm();
await Promise.resolve(); // the worker is busy with its preparation now
if (!pool.remotes[0].busy) throw new Error('the worker is not busy');
console.log(await pool.run('edges', 'answered')); // node ends with status 13 if nothing answers
