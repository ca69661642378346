// Type and size of an image file from its first bytes, so that no decoder is asked for more memory than the caps allow.

import { EscxError, need } from '../escx/errors.js';
import { u16, u32 } from '../escx/bytes.js';
import { CAPS } from '../escx/limits.js';

const big16 = (bytes, at) => (bytes[at] << 8) | bytes[at + 1];
const big32 = (bytes, at) => big16(bytes, at) * 65536 + big16(bytes, at + 2);
const begins = (bytes, text, at = 0) => [...text].every((character, i) => bytes[at + i] === character.charCodeAt(0));

/** {type, width, height} of a JPEG, PNG, WebP, GIF or BMP file: the kinds that browsers show. */
export function checkImage(bytes) {
  const found = readSize(bytes);
  if (!found) throw new EscxError('', 'browsers do not show this kind of image file; you can still save it');
  const { width, height } = found;
  need(width > 0 && height > 0, '', 'the image file is damaged: it has no size');
  need(width * height <= CAPS.pixels, 'M26', `the image file has ${width} x ${height} pixels: above the cap`);
  return found;
}

function readSize(bytes) {
  if (begins(bytes, '\x89PNG\r\n\x1a\n')) return { type: 'image/png', width: big32(bytes, 16), height: big32(bytes, 20) };
  if (begins(bytes, 'GIF8')) return { type: 'image/gif', width: u16(bytes, 6), height: u16(bytes, 8) };
  if (begins(bytes, 'BM')) {
    return { type: 'image/bmp', width: u32(bytes, 18), height: Math.abs(u32(bytes, 22) | 0) };
  }
  if (begins(bytes, 'RIFF') && begins(bytes, 'WEBP', 8)) return webpSize(bytes);
  if (bytes[0] === 0xff && bytes[1] === 0xd8) return jpegSize(bytes);
  return null;
}

function webpSize(bytes) {
  const type = 'image/webp';
  if (begins(bytes, 'VP8X', 12)) {
    const side = (at) => 1 + (bytes[at] | (bytes[at + 1] << 8) | (bytes[at + 2] << 16));
    return { type, width: side(24), height: side(27) };
  }
  if (begins(bytes, 'VP8L', 12)) {
    const bits = u32(bytes, 21);
    return { type, width: 1 + (bits & 0x3fff), height: 1 + ((bits >>> 14) & 0x3fff) };
  }
  return { type, width: u16(bytes, 26) & 0x3fff, height: u16(bytes, 28) & 0x3fff };
}

/** The size in the first frame header of a JPEG file. */
function jpegSize(bytes) {
  for (let at = 2; at + 9 < bytes.length; ) {
    if (bytes[at] !== 0xff) break;
    const marker = bytes[at + 1];
    const frame = marker >= 0xc0 && marker <= 0xcf && marker !== 0xc4 && marker !== 0xc8 && marker !== 0xcc;
    if (frame) return { type: 'image/jpeg', height: big16(bytes, at + 5), width: big16(bytes, at + 7) };
    if (marker === 0xff) at++;
    else if (marker === 0x01 || (marker >= 0xd0 && marker <= 0xd8)) at += 2;
    else at += 2 + big16(bytes, at + 2);
  }
  return { type: 'image/jpeg', width: 0, height: 0 };
}
