// One zstd frame that declares the size of its content (spec/FORMAT.md, "Values").

import { Decompress } from '../vendor/fzstd.js';
import { EscxError, need } from './errors.js';
import { u16, u32, u64 } from './bytes.js';

const MAGIC = 0xfd2fb528;
const MOST = 32768; // bytes of content for each byte of a frame, at most: 128 KiB take at least four bytes

/** The content of the frame that is all of `bytes`; at most `cap` bytes. `what` names it in messages. */
export function unzstd(bytes, cap, what) {
  const size = checkFrame(bytes, cap, what);
  const content = new Uint8Array(size);
  let at = 0;
  try {
    new Decompress((part) => {
      need(at + part.length <= size, 'M14', `${what}: its content is longer than declared`);
      content.set(part, at);
      at += part.length;
    }).push(bytes, true);
  } catch (error) {
    if (error instanceof EscxError) throw error;
    throw new EscxError('M14', `${what}: its zstd frame is damaged (${error.message})`);
  }
  need(at === size, 'M14', `${what}: its content is shorter than declared`);
  return content;
}

/** Checks header and blocks of a frame without decompressing it. Returns the declared size. */
function checkFrame(bytes, cap, what) {
  const damaged = (message) => new EscxError('M42', `${what}: ${message}`);
  if (bytes.length < 6 || u32(bytes, 0) !== MAGIC) throw damaged('not a zstd frame');
  const flags = bytes[4];
  const single = (flags >> 5) & 1;
  const dictionary = [0, 1, 2, 4][flags & 3];
  const sizeBytes = [single, 2, 4, 8][flags >> 6];
  if (flags & 4) throw damaged('its zstd frame has a checksum of its own');
  if (flags & 8) throw damaged('its zstd frame has a reserved bit');
  if (!sizeBytes) throw damaged('its zstd frame declares no size');
  let at = 5;
  let window = 0;
  if (!single) {
    const base = 2 ** (10 + (bytes[at] >> 3));
    window = base + (base / 8) * (bytes[at] & 7);
    at++;
  }
  for (let i = 0; i < dictionary; i++) if (bytes[at + i]) throw damaged('its zstd frame needs a dictionary');
  at += dictionary;
  if (at + sizeBytes > bytes.length) throw damaged('its zstd frame is cut off');
  let size = bytes[at];
  if (sizeBytes === 2) size = u16(bytes, at) + 256;
  if (sizeBytes === 4) size = u32(bytes, at);
  if (sizeBytes === 8) size = u64(bytes, at);
  need(size <= cap, 'M13', `${what}: declares ${size} bytes: the cap is ${cap}`);
  if (window > Math.max(cap, 1024) || size > MOST * bytes.length) throw damaged('its zstd frame asks for too much memory');
  at += sizeBytes;
  for (let last = 0; !last; ) {
    if (at + 3 > bytes.length) throw damaged('its zstd frame is cut off');
    const head = bytes[at] | (bytes[at + 1] << 8) | (bytes[at + 2] << 16);
    last = head & 1;
    at += 3 + (((head >> 1) & 3) === 1 ? 1 : head >> 3);
  }
  if (at !== bytes.length) throw damaged('its zstd frame does not end where its bytes end');
  return size;
}
