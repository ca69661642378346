// The page: opens files, filters, moves between the grid and single exemplars. Its state is in the address after '#'.

import { Detail } from './detail.js';
import { byId, count, counted } from './dom.js';
import { Grid } from './grid.js';
import { Library, usePrior } from './library.js';
import { ClassList, showBytes, showFacts } from './sidebar.js';
import { fillTile } from './tile.js';

const BATCH_NEAR = 64; // blocks that are searched at once
const BATCH_FAR = 4;
const PATIENCE = 64; // requests that a search of a file far away makes before it asks

const files = []; // {name, source}
const state = { file: 0, exemplar: null, className: null, kind: null, text: '' };
let library = null;
let found = null; // numbers of the exemplars that the filter lets through, or null: all
let searching = null; // the token of the search that runs
let opening = null;

const grid = new Grid(byId('grid'), {
  fill: (tile, item) => fillTile(tile, library, numberOf(item), grid.tileWidth),
  open: (item) => go({ exemplar: numberOf(item) }),
  address: (item) => address({ ...state, exemplar: numberOf(item) }),
});
const classList = new ClassList((className) => filter({ className }));
const detail = new Detail(byId('detail'), {
  step: (by) => {
    const item = itemOf(state.exemplar) + by;
    if (item >= 0 && item < grid.length) go({ exemplar: numberOf(item) }, true);
  },
  closed: () => {
    if (state.exemplar === null) return;
    const item = itemOf(state.exemplar);
    go({ exemplar: null });
    grid.reveal(item);
  },
});

// ---------------------------------------------------------------- state and address

function address({ file, exemplar, className, kind, text }) {
  const parts = new URLSearchParams();
  if (file) parts.set('file', file);
  if (className !== null) parts.set('class', className);
  if (kind !== null) parts.set('kind', kind);
  if (text) parts.set('text', text);
  if (exemplar !== null) parts.set('exemplar', exemplar);
  return `#${parts}`;
}

function readAddress() {
  const parts = new URLSearchParams(location.hash.slice(1));
  const whole = (key) => (/^\d{1,10}$/.test(parts.get(key) ?? '') ? Number(parts.get(key)) : null);
  return {
    file: whole('file') ?? 0,
    exemplar: whole('exemplar'),
    className: parts.get('class'),
    kind: whole('kind'),
    text: parts.get('text') ?? '',
  };
}

function go(change, replace = false) {
  Object.assign(state, change);
  history[replace ? 'replaceState' : 'pushState'](null, '', address(state));
  showExemplar();
}

function filter(change) {
  Object.assign(state, change);
  history.replaceState(null, '', address(state));
  showFilter();
  search();
}

const numberOf = (item) => (found ? found.numbers[item] : item);

function itemOf(number) {
  if (!found) return number;
  const { numbers, length } = found;
  let low = 0;
  let high = length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (numbers[middle] < number) low = middle + 1;
    else high = middle;
  }
  return low;
}

function showExemplar() {
  if (state.exemplar === null || !library || state.exemplar >= library.total) {
    if (detail.dialog.open) detail.dialog.close();
    return;
  }
  const item = itemOf(state.exemplar);
  grid.reveal(item, false);
  detail.show(library, state.exemplar, `${count(item + 1)} of ${count(grid.length)}${found && !found.done ? ' so far' : ''}`);
}

function showFilter() {
  if (byId('search').value.trim().toLowerCase() !== state.text) byId('search').value = state.text;
  for (const button of byId('kinds').children) {
    button.setAttribute('aria-pressed', String(button.dataset.kind === String(state.kind ?? '')));
  }
  classList.show(library, state.className);
}

// ---------------------------------------------------------------- searching

/** Goes through the tables of all blocks: for the filter, and once for what the bytes are spent on. */
async function search() {
  const token = Symbol('search');
  searching = token;
  const { className, kind, text } = state;
  const all = className === null && kind === null && !text;
  const blocks = blocksWith(className);
  found = all ? null : { numbers: new Float64Array(1024), length: 0, done: false };
  grid.resize(all ? library.total : 0, true);
  if (all && library.sizes?.whole) {
    tell();
    return;
  }
  if (all) await new Promise((resolve) => setTimeout(resolve, 400)); // the first screen comes first
  if (searching !== token) return;
  const sizes = { maps: 0, hints: 0, images: 0, pictures: 0, other: 0, kinds: [0, 0, 0], faults: 0 };
  const step = library.near ? BATCH_NEAR : BATCH_FAR;
  let limit = library.near ? Infinity : PATIENCE;
  if (all && !library.near) limit = Math.min(step, blocks.length); // the bytes of a far file are counted when asked
  for (let at = 0; at < blocks.length; at += step) {
    if (at >= limit) {
      tell(at / blocks.length, true);
      if (!(await asked(token))) return;
      limit = at + PATIENCE * step;
    }
    const batch = blocks.slice(at, at + step);
    let results;
    try {
      results = await library.search(batch, { className, kind, text });
    } catch (error) {
      if (searching === token) tell(at / blocks.length, false, error.message);
      return;
    }
    if (searching !== token) return;
    batch.forEach((number, i) => take(results[i], number, sizes));
    const done = Math.min(blocks.length, at + step);
    if (found) {
      found.done = done === blocks.length;
      const first = !found.shown && found.length;
      found.shown ||= found.length > 0;
      grid.resize(found.length, Boolean(first));
    }
    if (className === null) {
      const whole = done === blocks.length;
      if (whole && all) library.sizes = { ...sizes, whole };
      if (sizes.kinds[2]) byId('pictures').hidden = false;
      if (!library.sizes?.whole || whole) showBytes(library, sizes, { done, blocks: blocks.length });
    }
    tell(done / blocks.length, false, faultText(sizes.faults, sizes.fault));
  }
  if (!blocks.length) {
    if (className === null) showBytes(library, sizes, { done: 0, blocks: 0 });
    tell();
  }
  if (state.exemplar !== null) showExemplar();
}

function blocksWith(className) {
  const { members } = library.places;
  const number = className === null ? -1 : library.classes.indexOf(className);
  const blocks = [];
  for (let i = 0; i < members.length; i++) {
    if (className === null || members[i].some((each, j) => j % 2 === 0 && each === number)) blocks.push(i);
  }
  return blocks;
}

function take({ numbers, sizes: each, fault }, block, sizes) {
  if (fault) {
    sizes.faults++;
    sizes.fault ??= fault;
    return;
  }
  for (const part of ['maps', 'hints', 'images', 'pictures']) sizes[part] += each[part];
  each.kinds.forEach((value, i) => (sizes.kinds[i] += value));
  sizes.other += library.places.lengths[block] + 12 - each.maps - each.hints - each.images - each.pictures;
  if (!found) return;
  while (found.length + numbers.length > found.numbers.length) {
    const longer = new Float64Array(2 * found.numbers.length);
    longer.set(found.numbers);
    found.numbers = longer;
  }
  found.numbers.set(numbers, found.length);
  found.length += numbers.length;
}

function faultText(faults, first) {
  return faults ? `${counted(faults, 'block')} cannot be read: ${first}` : '';
}

/** Says what is shown, how far a search is, and what is wrong. */
function tell(done = 1, pausing = false, fault = '') {
  const line = byId('status');
  const parts = [];
  if (found) {
    const all = found.length === library.total;
    parts.push(all ? `All ${counted(found.length, 'exemplar')}` : `${count(found.length)} of ${counted(library.total, 'exemplar')}`);
    if (done < 1) parts.push(`${Math.floor(100 * done)} % of the file searched`);
  } else {
    parts.push(library.total ? counted(library.total, 'exemplar') : 'The file holds no exemplars');
  }
  line.replaceChildren(parts.join(' · '));
  line.classList.toggle('fault', Boolean(fault));
  if (fault) line.append(` · ${fault}`);
  if (pausing) {
    const button = document.createElement('button');
    button.className = 'link';
    button.type = 'button';
    button.textContent = found ? 'Search on' : 'Count the bytes of all blocks';
    button.onclick = () => button.dispatchEvent(new Event('continue', { bubbles: true }));
    line.append(' · ', button);
  }
}

function asked(token) {
  return new Promise((resolve) => {
    byId('status').addEventListener('continue', () => resolve(searching === token), { once: true });
  });
}

// ---------------------------------------------------------------- opening

/** Shows file `number` of `files`. */
async function show(number) {
  const token = Symbol('open');
  opening = token;
  searching = null;
  library?.close();
  const { name, source } = files[number];
  const next = new Library(name, source);
  document.body.className = 'opening';
  byId('files').replaceChildren(...files.map((each, i) => new Option(each.name, i, false, i === number)));
  byId('files').hidden = files.length < 2;
  byId('file-name').textContent = name;
  byId('problem').hidden = true;
  try {
    await next.open();
  } catch (error) {
    if (opening === token) fail(`${name}: ${error.message}${error.unfinished ? '. `escort recover` saves what is whole.' : ''}`);
    next.close();
    return;
  }
  if (opening !== token) {
    next.close();
    return;
  }
  library = next;
  found = null;
  document.title = `${name} – escort view`;
  document.body.className = 'open';
  byId('verdict').textContent = '';
  byId('file-name').hidden = files.length > 1;
  byId('pictures').hidden = state.kind !== 2; // few files have any
  showFacts(library);
  showFilter();
  grid.resize(library.total, true);
  search();
  showExemplar();
}

function fail(message) {
  library = null;
  document.body.className = 'empty';
  byId('file-name').textContent = '';
  const problem = byId('problem');
  problem.textContent = message;
  problem.hidden = false;
}

/** Adds files and shows the first of them. */
function add(more) {
  if (!more.length) return;
  const first = files.push(...more) - more.length;
  Object.assign(state, { file: first, exemplar: null, className: null, kind: null, text: '' });
  history.pushState(null, '', address(state));
  show(first);
}

const ofBlobs = (blobs) => [...blobs].map((blob) => ({ name: blob.name, source: { blob } }));

function openAddress(url) {
  const address_ = new URL(url, location.href);
  if (!/^https?:$/.test(address_.protocol)) {
    fail(`${url}: give an address that begins with https://`);
    return;
  }
  add([{ name: decodeURIComponent(address_.pathname.split('/').at(-1)) || address_.host, source: { url: address_.href, near: false } }]);
}

async function verify() {
  const button = byId('verify');
  const verdict = byId('verdict');
  if (button.running) {
    button.running.end('stopped');
    return;
  }
  const checked = library;
  const { remote, result } = checked.verify((done) => (verdict.textContent = `${Math.floor(100 * done)} %`));
  button.running = remote;
  button.textContent = 'Stop';
  try {
    const { exemplars, blocks, later } = await result;
    const held = `${counted(exemplars, 'exemplar')} in ${counted(blocks, 'block')}: no faults`;
    if (library === checked) verdict.textContent = held + (later ? `; what version 1.${later} adds was not checked` : '');
  } catch (error) {
    if (library === checked) verdict.textContent = error.message;
  }
  button.running = null;
  button.textContent = 'Check every byte';
}

// ---------------------------------------------------------------- what people do

function listen() {
  const picker = byId('picker');
  const choose = () => picker.click();
  byId('choose').onclick = choose;
  byId('open-other').onclick = choose;
  picker.onchange = () => {
    add(ofBlobs(picker.files));
    picker.value = '';
  };
  addEventListener('dragover', (event) => {
    event.preventDefault();
    document.body.classList.add('dragging');
  });
  addEventListener('dragleave', (event) => event.relatedTarget || document.body.classList.remove('dragging'));
  addEventListener('drop', (event) => {
    event.preventDefault();
    document.body.classList.remove('dragging');
    add(ofBlobs(event.dataTransfer.files));
  });
  byId('address').onsubmit = (event) => {
    event.preventDefault();
    openAddress(byId('url').value.trim());
  };
  byId('files').onchange = () => {
    Object.assign(state, { file: Number(byId('files').value), exemplar: null, className: null, kind: null, text: '' });
    history.pushState(null, '', address(state));
    show(state.file);
  };
  let timer = 0;
  byId('search').oninput = () => {
    clearTimeout(timer);
    timer = setTimeout(() => library && filter({ text: byId('search').value.trim().toLowerCase() }), 150);
  };
  byId('kinds').onclick = ({ target }) => {
    if (target.dataset.kind !== undefined) filter({ kind: target.dataset.kind === '' ? null : Number(target.dataset.kind) });
  };
  byId('zoom').querySelector('input').oninput = ({ target }) => {
    grid.side = Number(target.value);
    grid.layout();
  };
  byId('verify').onclick = verify;
  addEventListener('keydown', (event) => {
    const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement?.tagName);
    if (event.key === '/' && !typing && library && !detail.dialog.open) {
      event.preventDefault();
      byId('search').focus();
    } else if (event.key === 'Escape' && document.activeElement === byId('search')) {
      byId('search').value = '';
      filter({ text: '' });
      grid.reveal(grid.focus);
    } else if (event.key === 'ArrowDown' && document.activeElement === byId('search')) {
      event.preventDefault();
      grid.reveal(grid.focus);
    }
  });
  addEventListener('popstate', () => {
    const before = { ...state };
    Object.assign(state, readAddress());
    if (state.file !== before.file && files[state.file]) {
      show(state.file);
      return;
    }
    if (!library) return;
    if (['className', 'kind', 'text'].some((key) => state[key] !== before[key])) {
      showFilter();
      search();
    }
    showExemplar();
  });
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => {
    if (!library) return;
    grid.refresh();
    detail.forget();
    showExemplar();
  });
  if (matchMedia('(max-width: 50rem)').matches) {
    byId('side-details').open = false;
    byId('zoom').querySelector('input').value = grid.side = 144; // two columns on a phone
  }
}

/** The bytes in an element of an exported page. */
function embedded(id) {
  const text = atob(byId(id).textContent);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}

function start() {
  listen();
  const served = JSON.parse(byId('served').textContent);
  if (served.embedded) {
    document.body.dataset.exported = '';
    usePrior(async () => embedded('prior'), served.learned ? { bytes: embedded('learned') } : null);
    files.push(...served.embedded.map(({ name, id }) => ({ name, source: { bytes: embedded(id) } })));
  } else {
    usePrior(async () => {
      const answer = await fetch(served.prior ?? '../spec/prior-1.bin.gz');
      if (!answer.ok) throw new Error(`the prior: the server answers ${answer.status}`);
      return new Uint8Array(await answer.arrayBuffer());
    }, { url: new URL(served.learned ?? '../spec/latent-1.bin.gz', location.href).href });
    for (const { name, url } of served.files ?? []) files.push({ name, source: { url: new URL(url, location.href).href, near: true } });
  }
  Object.assign(state, readAddress());
  const url = new URLSearchParams(location.search).get('url');
  if (files.length) show(files[state.file] ? state.file : 0);
  else if (url) openAddress(url);
}

start();
