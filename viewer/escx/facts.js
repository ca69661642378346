// Head and recipes (spec/FORMAT.md, "Head" and "Recipes").

import { need } from './errors.js';
import { CAPS, checkLength } from './limits.js';
import { Unpacker } from './msgpack.js';

/** {source, writer} from the payload of a HEAD chunk. */
export function readHead(payload) {
  need(payload.length <= CAPS.head, 'M26', 'the head is above the cap');
  const table = new Unpacker(payload, 'the head');
  const map = table.value();
  table.end();
  need(map instanceof Map, 'M53', 'the head is not a map');
  const facts = {};
  for (const key of ['source', 'writer']) {
    const text = map.get(key) ?? '';
    need(typeof text === 'string', 'M53', `the head: ${key} is not a text`);
    checkLength(key, text, CAPS.source);
    facts[key] = text;
  }
  return facts;
}

const TEXT = (value) => typeof value === 'string';
const INTEGER = (value) => Number.isInteger(value) && value >= 0 && value <= 0xffffffff; // a float is an instance of Number
const FLOAT = (value) => value instanceof Number ? Number.isFinite(value.valueOf()) : INTEGER(value);
const TEXTS = (value) => value instanceof Map && [...value].flat().every(TEXT);

const FIELDS = {
  preset: TEXT,
  prompt_suffix: TEXT,
  negative_prompt: TEXT,
  steps: INTEGER,
  resolution: INTEGER,
  guidance: FLOAT,
  control_strength: FLOAT,
  hint_strength: FLOAT,
  scheduler: TEXT,
  dtype: TEXT,
  model: TEXT,
  model_revision: TEXT,
  controlnet: TEXT,
  controlnet_revision: TEXT,
  extra: TEXTS,
};

/** Recipe `number` from the payload of a RECP chunk: an object of its known fields. */
export function readRecipe(payload, number) {
  need(payload.length <= CAPS.recipe, 'M26', 'a recipe is above the cap');
  const table = new Unpacker(payload, 'a recipe');
  const value = table.value();
  table.end();
  const pair = Array.isArray(value) && value.length === 2 && value[1] instanceof Map;
  need(pair && value[0] === number, 'M45', `recipe ${number} is not where it should be`);
  const recipe = {};
  for (const [key, field] of value[1]) {
    if (!Object.hasOwn(FIELDS, key)) continue;
    need(FIELDS[key](field), 'M45', `recipe ${number}: ${key} is of the wrong type or range`);
    recipe[key] = field instanceof Map ? Object.fromEntries(field) : field instanceof Number ? Number(field) : field;
  }
  return recipe;
}
