// Sources of bytes: an object with `size`, `whole` (true: reading more than needed costs nothing), and
// `read(offset, length)`, a promise of a Uint8Array that is shorter only where the source ends.

import { EscxError } from './errors.js';

/** Bytes in memory. */
export class BytesSource {
  constructor(bytes) {
    this.bytes = bytes;
    this.size = bytes.length;
    this.whole = true;
  }

  async read(offset, length) {
    return this.bytes.subarray(offset, Math.max(offset, offset + length));
  }
}

/** A Blob or a File. */
export class BlobSource {
  constructor(blob) {
    this.blob = blob;
    this.size = blob.size;
    this.whole = true;
  }

  async read(offset, length) {
    try {
      return new Uint8Array(await this.blob.slice(offset, offset + length).arrayBuffer());
    } catch (error) {
      throw new EscxError('', `the file cannot be read: was it changed or removed? (${error.message})`);
    }
  }
}

/** Bytes that the first request takes: head, recipes and with luck the first table come with it. */
const FIRST = 65536;

/** Bytes that are taken whole from a server without range requests, at most. */
const MOST_WHOLE = 268435456;

/**
 * A file on a server that answers range requests. Counts its `requests` and the `bytes` that came.
 *
 * Ranges have both ends, so that another origin's server needs no preflight request. `near`: the server is on this
 * machine, where bytes cost less than requests.
 */
export class HttpSource {
  constructor(url, { near = false } = {}) {
    this.url = url;
    this.whole = near;
    this.size = 0;
    this.requests = 0;
    this.bytes = 0;
    this.first = new Uint8Array(0);
    this.mark = null;
  }

  /** Learns the size. Takes the whole file if the server knows no ranges and the file is not large. */
  async open() {
    const answer = await this.#ask(0, FIRST);
    if (answer.status === 200) {
      this.first = await this.#all(answer);
      this.size = this.first.length;
      return this;
    }
    if (answer.status === 416) return this; // an empty file has no first byte
    this.first = await this.#body(answer);
    this.size = sizeIn(answer) ?? (this.first.length < FIRST ? this.first.length : await this.#askSize());
    return this;
  }

  async read(offset, length) {
    const end = Math.min(offset + length, this.size);
    if (end <= offset) return new Uint8Array(0);
    if (end <= this.first.length) return this.first.subarray(offset, end);
    const answer = await this.#ask(offset, end - offset);
    if (answer.status !== 206) throw new EscxError('', `${this.url}: the server stopped answering range requests`);
    const body = await this.#body(answer);
    const known = sizeIn(answer);
    if (body.length !== end - offset || (known !== null && known !== this.size)) {
      throw new EscxError('', `${this.url}: the file changed while it was read: open it again`);
    }
    return body;
  }

  async #ask(offset, length) {
    this.requests++;
    const answer = await request(this.url, { headers: { Range: `bytes=${offset}-${offset + length - 1}` } });
    const mark = answer.headers.get('etag') ?? answer.headers.get('last-modified');
    this.mark ??= mark;
    if (mark !== this.mark) throw new EscxError('', `${this.url}: the file changed while it was read: open it again`);
    return answer;
  }

  async #body(answer) {
    const bytes = new Uint8Array(await answer.arrayBuffer());
    this.bytes += bytes.length;
    return bytes;
  }

  async #askSize() {
    this.requests++;
    const answer = await request(this.url, { method: 'HEAD' });
    const size = Number(answer.headers.get('content-length') ?? NaN);
    if (!Number.isSafeInteger(size)) throw new EscxError('', `${this.url}: the server does not tell the file's size`);
    return size;
  }

  async #all(answer) {
    const parts = [];
    let size = 0;
    for (const reader = answer.body.getReader(); ; ) {
      const { done, value } = await reader.read();
      if (done) break;
      parts.push(value);
      size += value.length;
      if (size > MOST_WHOLE) {
        await reader.cancel();
        throw new EscxError('', `${this.url}: the server has no range requests, and the file is too large without`);
      }
    }
    const bytes = new Uint8Array(size);
    let at = 0;
    for (const part of parts) {
      bytes.set(part, at);
      at += part.length;
    }
    this.bytes += size;
    return bytes;
  }
}

/** The size of the whole file in a Content-Range header, or null if the server or its CORS rules hide it. */
function sizeIn(answer) {
  const match = /^bytes (?:\d+-\d+|\*)\/(\d+)$/.exec(answer.headers.get('content-range') ?? '');
  return match ? Number(match[1]) : null;
}

async function request(url, options) {
  let answer;
  try {
    answer = await fetch(url, { cache: 'no-store', credentials: 'same-origin', referrerPolicy: 'no-referrer', ...options });
  } catch {
    throw new EscxError('', `${url}: no answer. Is the address right, and may other pages read it (CORS)?`);
  }
  if (answer.status === 404) throw new EscxError('', `${url}: there is no such file`);
  if (!answer.ok && answer.status !== 416) throw new EscxError('', `${url}: the server answers ${answer.status}`);
  return answer;
}
