// The prior of coding 2: five tables of signed bytes, kept as a gzip file.

import { EscxError } from './errors.js';
import { PRIOR_BYTES } from './coding/context.js';

/** The tables in a gzip file, as an Int8Array. `bytes`: the file. */
export async function unpackPrior(bytes) {
  const tables = await gunzip(bytes, PRIOR_BYTES);
  if (!tables) throw new EscxError('', `the prior does not have ${PRIOR_BYTES} bytes`);
  return new Int8Array(tables.buffer);
}

/** The content of a gzip file if it has `size` bytes (with `atMost`, no more than that), else null. */
export async function gunzip(bytes, size, { atMost = false } = {}) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('gzip'));
  const content = new Uint8Array(size);
  let at = 0;
  for (const reader = stream.getReader(); ; ) {
    const { done, value } = await reader.read();
    if (done) return at === size ? content : atMost ? content.slice(0, at) : null;
    if (at + value.length > size) return null;
    content.set(value, at);
    at += value.length;
  }
}
