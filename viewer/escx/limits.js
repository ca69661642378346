// The caps of spec/FORMAT.md (section "Caps"), and the checks of names. Lengths of texts are in bytes of UTF-8.

import { refuse } from './errors.js';

export const CAPS = Object.freeze({
  chunk: 268435456,
  table: 16777216,
  index: 67108864,
  head: 65536,
  rows: 1024,
  exemplars: 4294967295,
  recipes: 65536,
  recipe: 16384,
  allRecipes: 4194304,
  classes: 1048576,
  className: 255,
  name: 1024,
  prompt: 8192,
  source: 4096,
  side: 65535,
  pixels: 67108864,
  seeds: 4096,
  seed: 4294967295,
  indexSeeds: 1048576,
  hint: 65536,
  hintSide: 1024,
  latent: 1048576,
  latentSide: 1024,
  payload: 67108864,
});

const PLAIN = /^[\w .-]*$/; // names that need no closer look, if no part begins with a dot
const CONTROL = /[\u0000-\u001f\u007f]/; // eslint-disable-line no-control-regex -- these are what is looked for
const DRIVE = /^[A-Za-z]:/;

/** Refuses a class name that cannot be one folder's name (M19). */
export function checkClassName(text) {
  const plain = text !== '' && text !== '.' && text !== '..' && !/[/\\]/.test(text);
  if (!plain || CONTROL.test(text) || DRIVE.test(text)) refuse('M19', `class name ${quoted(text)} cannot be a folder's`);
  checkLength('class name', text, CAPS.className);
}

/** Refuses a name that is neither empty nor a plain relative path (M19). */
export function checkName(text) {
  checkLength('name', text, CAPS.name);
  if (text === '' || (PLAIN.test(text) && text[0] !== '.')) return;
  const safe = text.split('/').every((part) => part !== '' && part !== '.' && part !== '..');
  if (text.includes('\\') || CONTROL.test(text) || DRIVE.test(text) || !safe) {
    refuse('M19', `name ${quoted(text)} is not a plain relative path`);
  }
}

/** Refuses a text above its cap (M19, M26). */
export function checkLength(what, text, cap) {
  if (text.length * 3 <= cap) return;
  const bytes = utf8Length(text);
  if (bytes > cap) refuse('M19', `${what} ${quoted(text)} has ${bytes} bytes: the cap is ${cap}`);
}

/** Refuses sides or pixels above the caps (M26). */
export function checkSize(what, height, width) {
  if (height <= CAPS.side && width <= CAPS.side && height * width <= CAPS.pixels) return;
  refuse('M26', `${what} of ${width} x ${height} pixels is above the cap`);
}

/** The beginning of a text in quotes, with control characters escaped: for messages. */
export function quoted(text) {
  return JSON.stringify(text.length > 40 ? `${text.slice(0, 40)}...` : text);
}

function utf8Length(text) {
  let bytes = 0;
  for (const character of text) {
    const point = character.codePointAt(0);
    bytes += point < 0x80 ? 1 : point < 0x800 ? 2 : point < 0x10000 ? 3 : 4;
  }
  return bytes;
}
