// Workers as functions that answer in time or not at all.

/** What a worker answered with: a fault of the file, or no answer in time. */
export class RemoteError extends Error {
  constructor({ message, unfinished = false, rule = '' }) {
    super(message);
    this.name = 'RemoteError';
    this.unfinished = unfinished;
    this.rule = rule;
  }
}

/** A worker; it is started at the first call, and again after it was ended. */
export class Remote {
  constructor(prepare = null) {
    this.prepare = prepare; // called with each new worker
    this.onIdle = null; // called when no call waits any more
    this.worker = null;
    this.pending = new Map();
    this.last = 0;
  }

  /** The result of an operation. Ends the worker after `seconds` without an answer or news. */
  call(operation, values = {}, { seconds = 30, onProgress = null } = {}) {
    this.#start();
    const id = ++this.last;
    return new Promise((resolve, reject) => {
      const entry = { resolve, reject, onProgress, seconds, timer: 0 };
      this.pending.set(id, entry);
      this.#watch(id, entry);
      this.worker.postMessage({ id, operation, values });
    });
  }

  /** Ends the worker; calls that wait fail. */
  end(message = 'it was given up') {
    this.worker?.terminate();
    this.worker = null;
    const waiting = [...this.pending.values()];
    this.pending.clear();
    for (const { reject, timer } of waiting) {
      clearTimeout(timer);
      reject(new RemoteError({ message }));
    }
    if (waiting.length) this.onIdle?.();
  }

  /** Starts the worker ahead of its first call. */
  warm() {
    this.#start();
  }

  get busy() {
    return this.pending.size > 0;
  }

  #watch(id, entry) {
    clearTimeout(entry.timer);
    entry.timer = setTimeout(() => {
      if (this.pending.has(id)) this.end(`gave up after ${entry.seconds} seconds: this takes too long`);
    }, entry.seconds * 1000);
  }

  #start() {
    if (this.worker) return;
    this.worker = startWorker();
    this.worker.onmessage = ({ data: { id, result, error, progress } }) => {
      const entry = this.pending.get(id);
      if (!entry) return;
      if (progress !== undefined) {
        this.#watch(id, entry);
        entry.onProgress?.(progress);
        return;
      }
      this.pending.delete(id);
      clearTimeout(entry.timer);
      if (error) entry.reject(new RemoteError(error));
      else entry.resolve(result);
      if (!this.busy) this.onIdle?.();
    };
    this.worker.onerror = (event) => this.end(`a worker failed: ${event.message || 'it could not be started'}`);
    this.prepare?.(this);
  }
}

/** Workers that share a queue. What nobody wants any more when its turn comes is passed over. */
export class Pool {
  constructor(size, prepare) {
    this.remotes = Array.from({ length: size }, () => new Remote(prepare));
    for (const remote of this.remotes) remote.onIdle = () => this.#next(); // after calls that prepare it, too
    this.queue = [];
  }

  /** The result of an operation, or undefined if `wanted` says no when its turn comes. `first`: before all others. */
  run(operation, values, { wanted = () => true, seconds = 20, first = false } = {}) {
    return new Promise((resolve, reject) => {
      this.queue[first ? 'unshift' : 'push']({ operation, values, wanted, seconds, resolve, reject });
      this.#next();
    });
  }

  /** Starts the workers ahead of their first calls. */
  warm() {
    for (const remote of this.remotes) remote.warm();
  }

  #next() {
    for (const remote of this.remotes) {
      while (!remote.busy && this.queue.length) {
        const task = this.queue.shift();
        if (!task.wanted()) {
          task.resolve(undefined);
          continue;
        }
        remote.call(task.operation, task.values, { seconds: task.seconds }).then(task.resolve, task.reject);
      }
    }
  }
}

let bundle = null; // the address of the page's script with all modules in it

/** A worker from worker.js, or from the page's own script where that has all modules in it. */
function startWorker() {
  const script = document.getElementById('bundle');
  if (!script) return new Worker('app/worker.js', { type: 'module' });
  bundle ??= script.src || URL.createObjectURL(new Blob([script.textContent], { type: 'text/javascript' }));
  return new Worker(bundle);
}
