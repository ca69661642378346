// Colour hints: a bare VP8 key frame, rebuilt as a WebP file (spec/FORMAT.md, "Hints").

import { need } from './errors.js';
import { u16 } from './bytes.js';
import { CAPS } from './limits.js';

const HEADER = 10;
const IMPLIED = 8; // zero bytes that a writer may leave out

/** {width, height, file} of a hint; `file` is the WebP file, a Uint8Array. Its picture must have that size (M29). */
export function rebuildHint(bytes) {
  const n = bytes.length;
  need(n >= HEADER && n <= CAPS.hint, 'M28', `a hint of ${n} bytes`);
  const tag = bytes[0] | (bytes[1] << 8) | (bytes[2] << 16);
  const key = !(tag & 1) && ((tag >> 1) & 7) <= 3 && tag & 16 && bytes[3] === 0x9d && bytes[4] === 1 && bytes[5] === 0x2a;
  need(key, 'M28', 'a hint is not a visible VP8 key frame');
  need(HEADER + (tag >> 5) <= n + IMPLIED, 'M28', "a hint's first partition is longer than the hint");
  const width = u16(bytes, 6);
  const height = u16(bytes, 8);
  need(!((width | height) >> 14), 'M28', 'a hint asks for scaling');
  const fits = width >= 1 && height >= 1 && width <= CAPS.hintSide && height <= CAPS.hintSide;
  need(fits, 'M28', `a hint of ${width} x ${height} pixels`);
  const m = n + IMPLIED + (n % 2);
  const file = new Uint8Array(20 + m);
  const data = new DataView(file.buffer);
  data.setUint32(0, 0x52494646); // RIFF
  data.setUint32(4, m + 12, true);
  data.setUint32(8, 0x57454250); // WEBP
  data.setUint32(12, 0x56503820); // VP8 and a space
  data.setUint32(16, m, true);
  file.set(bytes, 20);
  return { width, height, file };
}
