// Numbers in bytes, CRC-32, and the order of texts by code point.

const TABLES = crcTables();

function crcTables() {
  const tables = new Uint32Array(4 * 256);
  for (let i = 0; i < 256; i++) {
    let value = i;
    for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
    tables[i] = value;
  }
  for (let i = 256; i < tables.length; i++) tables[i] = (tables[i - 256] >>> 8) ^ tables[tables[i - 256] & 255];
  return tables;
}

/** The CRC-32 of `bytes`, or its continuation of `crc`. */
export function crc32(bytes, crc = 0) {
  const t = TABLES;
  let value = ~crc;
  let i = 0;
  for (const end = bytes.length - 3; i < end; i += 4) {
    value ^= bytes[i] | (bytes[i + 1] << 8) | (bytes[i + 2] << 16) | (bytes[i + 3] << 24);
    value = t[768 | (value & 255)] ^ t[512 | ((value >>> 8) & 255)] ^ t[256 | ((value >>> 16) & 255)] ^ t[value >>> 24];
  }
  for (; i < bytes.length; i++) value = t[(value ^ bytes[i]) & 255] ^ (value >>> 8);
  return ~value >>> 0;
}

/** The unsigned 16-bit number at `at`. */
export function u16(bytes, at) {
  return bytes[at] | (bytes[at + 1] << 8);
}

/** The unsigned 32-bit number at `at`. */
export function u32(bytes, at) {
  return (bytes[at] | (bytes[at + 1] << 8) | (bytes[at + 2] << 16) | (bytes[at + 3] << 24)) >>> 0;
}

/** The unsigned 64-bit number at `at`; Infinity above 2^53, where no offset of a file can be. */
export function u64(bytes, at) {
  const value = u32(bytes, at) + u32(bytes, at + 4) * 2 ** 32;
  return Number.isSafeInteger(value) ? value : Infinity;
}

/** Compares texts by code point: -1, 0 or 1. JavaScript's own order is by UTF-16 unit. */
export function compareTexts(one, other) {
  const length = Math.min(one.length, other.length);
  for (let i = 0; i < length; i++) {
    const a = one.charCodeAt(i);
    const b = other.charCodeAt(i);
    if (a !== b) return rank(a) < rank(b) ? -1 : 1;
  }
  return Math.sign(one.length - other.length);
}

/** Surrogates stand for code points above all other units'. */
function rank(unit) {
  return unit >= 0xd800 && unit < 0xe000 ? unit + 0x10000 : unit;
}
