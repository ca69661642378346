// What the viewer's reader makes of files and of coded maps, as JSON on standard output.
//
//     node dump.mjs files PRIOR.gz FILE...     by file {opened, read, verdict}: what is found, or {error, rule}
//     node dump.mjs maps PRIOR.gz MAPS.json    [[coding, height, width, base64], ...]: rows of '.' and '#', or the rule
//     node dump.mjs latents PRIOR.gz ALL.json  [[base64, draw], ...]: {latents, size} and with draw {pixels}, or the rule
//
// The model of learned pictures is the file latent-1.bin.gz beside PRIOR.gz.

import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import process from 'node:process';

import { decodeMap } from '../../viewer/escx/coding/codings.js';
import { EscxError } from '../../viewer/escx/errors.js';
import { EscxFile } from '../../viewer/escx/file.js';
import { rebuildHint } from '../../viewer/escx/hint.js';
import { readPictureHead, readLatents } from '../../viewer/escx/latent/latents.js';
import { unpackModel } from '../../viewer/escx/latent/model.js';
import { decodePicture } from '../../viewer/escx/latent/picture.js';
import { unpackPrior } from '../../viewer/escx/prior.js';
import { BytesSource } from '../../viewer/escx/source.js';
import { verify } from '../../viewer/escx/verify.js';

const base64 = (bytes) => Buffer.from(bytes).toString('base64');
const sourceOf = (path) => new BytesSource(new Uint8Array(readFileSync(path)));

function lines(map) {
  return Array.from({ length: map.height }, (_, y) =>
    Array.from({ length: map.width }, (_, x) => '.#'[map.at(y, x)]).join(''),
  );
}

async function dump(file, tables) {
  const exemplars = [];
  for (let number = 0; number < file.index.offsets.length; number++) {
    const block = await file.block(number);
    const payloads = await file.payloads(number, [...Array(block.length).keys()]);
    for (let i = 0; i < block.length; i++) {
      const row = block.row(i);
      const out = { kind: row.kind, class: row.class, name: row.name, size: row.size, prompt: row.prompt };
      Object.assign(out, { seeds: block.seedsOf(i), recipe: file.recipes[row.recipe], payload: base64(payloads[i]) });
      if (row.kind === 'prompt') {
        const hint = block.hintOf(i);
        Object.assign(out, { coding: row.coding, map_size: row.mapSize, made: row.made, hint: hint && base64(hint) });
        Object.assign(out, { hint_codec: row.hintCodec });
        try {
          out.edges = lines(block.mapOf(i, payloads[i], tables));
          if (hint && row.hintCodec === 0) rebuildHint(hint);
          if (hint && row.hintCodec === 1) readLatents(hint, learned.tables);
          if (row.hintCodec > 1) throw new EscxError('M38', `a hint under codec ${row.hintCodec}`);
        } catch (error) {
          if (!(error instanceof EscxError)) throw error;
          out.edges ??= null;
          out.fault = { error: error.message, rule: error.rule };
        }
      }
      if (row.kind === 'latent') {
        const fault = await refused(() => (readLatents(payloads[i], learned.tables), null));
        if (fault) out.fault = fault;
      }
      exemplars.push(out);
    }
  }
  return { source: file.head.source, minor: file.minor, exemplars };
}

async function refused(make) {
  try {
    return await make();
  } catch (error) {
    if (!(error instanceof EscxError)) throw error;
    return { error: error.message, rule: error.rule, unfinished: error.unfinished };
  }
}

const [what, prior, ...paths] = process.argv.slice(2);
const tables = await unpackPrior(new Uint8Array(readFileSync(prior)));
const learned = await unpackModel(new Uint8Array(readFileSync(join(dirname(prior), 'latent-1.bin.gz'))));
const answer = {};
if (what === 'files') {
  for (const path of paths) {
    const opened = await refused(() => EscxFile.open(sourceOf(path)));
    const read = opened.error ? null : await refused(() => dump(opened, tables));
    const verdict = await refused(() => verify(sourceOf(path), { tables, model: async () => learned }));
    answer[path] = { opened: opened.error ? opened : { minor: opened.minor }, read, verdict };
  }
} else if (what === 'latents') {
  answer.latents = [];
  for (const [bytes, draw] of JSON.parse(readFileSync(paths[0], 'utf8'))) {
    const data = new Uint8Array(Buffer.from(bytes, 'base64'));
    const found = await refused(() => {
      const { height, width } = readPictureHead(data);
      const { values } = readLatents(data, learned.tables);
      return { size: [height, width], latents: base64(new Uint8Array(values.buffer)) };
    });
    if (draw && !found.error) found.pixels = base64(decodePicture(data, learned).data);
    answer.latents.push(found);
  }
} else {
  answer.maps = [];
  for (const [coding, height, width, bytes] of JSON.parse(readFileSync(paths[0], 'utf8'))) {
    const data = new Uint8Array(Buffer.from(bytes, 'base64'));
    answer.maps.push(await refused(() => lines(decodeMap(coding, data, height, width, tables))));
  }
}
process.stdout.write(JSON.stringify(answer));
