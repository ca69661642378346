// The grid of exemplars: a few dozen tiles for any number of them.

import { el } from './dom.js';
import { Scroller } from './scroller.js';

const GAP = 12;
const CAPTION = 44;
const AHEAD = 1; // rows above and below the visible ones

/**
 * Shows `length` items in `box`. `fill(tile, item)` fills a tile for an item, `open(item)` opens one.
 *
 * A tile is an anchor with a canvas and two lines of text, and is used again for other items.
 */
export class Grid {
  constructor(box, { fill, open, address }) {
    Object.assign(this, { box, fill, open, address, length: 0, side: 168, focus: 0, tiles: new Map(), free: [] });
    this.spacer = el('div', { class: 'spacer', role: 'list' });
    box.append(this.spacer);
    this.scroller = new Scroller(box, this.spacer, () => this.draw());
    new ResizeObserver(() => this.layout()).observe(box);
    box.addEventListener('keydown', (event) => this.#key(event));
    box.addEventListener('click', (event) => {
      const tile = event.target.closest('.tile');
      if (!tile || event.metaKey || event.ctrlKey || event.shiftKey || event.button) return;
      event.preventDefault();
      this.focus = tile.item;
      this.open(tile.item);
    });
  }

  /** Shows another number of items; `top`: from the first one on. */
  resize(length, top = false) {
    this.length = length;
    if (top) this.scroller.top = 0;
    this.focus = Math.max(0, Math.min(this.focus, length - 1));
    this.layout();
  }

  /** Recomputes columns and heights. */
  layout() {
    const width = this.box.clientWidth - 2 * GAP;
    const first = this.#first();
    this.columns = Math.max(1, Math.floor((width + GAP) / (this.side + GAP)));
    this.tileWidth = Math.floor((width - (this.columns - 1) * GAP) / this.columns);
    this.rowHeight = this.tileWidth + CAPTION + GAP;
    const rows = Math.ceil(this.length / this.columns);
    if (first !== null) this.scroller.top = Math.floor(first / this.columns) * this.rowHeight;
    const focused = this.box.contains(document.activeElement);
    for (const [item, tile] of this.tiles) this.#release(item, tile);
    this.scroller.resize(rows * this.rowHeight + GAP);
    if (focused) this.tiles.get(this.focus)?.focus({ preventScroll: true });
  }

  /** Fills all visible tiles anew. */
  refresh() {
    for (const [item, tile] of this.tiles) this.fill(tile, item);
  }

  /** Whether a tile shows an item. */
  shows(item) {
    return this.tiles.has(item);
  }

  /** Scrolls to an item and puts the focus on it. */
  reveal(item, focus = true) {
    if (item < 0 || item >= this.length) return;
    this.focus = item;
    const top = Math.floor(item / this.columns) * this.rowHeight;
    const { scroller } = this;
    if (top < scroller.top) scroller.go(top);
    else if (top + this.rowHeight > scroller.top + scroller.view) scroller.go(top + this.rowHeight + GAP - scroller.view);
    else this.draw();
    if (focus) this.tiles.get(item)?.focus({ preventScroll: true });
  }

  /** Places the tiles of the visible rows. */
  draw() {
    const { scroller } = this;
    const first = Math.max(0, Math.floor(scroller.top / this.rowHeight) - AHEAD);
    const last = Math.ceil((scroller.top + scroller.view) / this.rowHeight) + AHEAD;
    const from = first * this.columns;
    const to = Math.min(this.length, last * this.columns);
    for (const [item, tile] of this.tiles) {
      if (item < from || item >= to) this.#release(item, tile);
    }
    for (let item = from; item < to; item++) {
      let tile = this.tiles.get(item);
      if (!tile) {
        tile = this.free.pop() ?? this.#create();
        this.tiles.set(item, tile);
        tile.item = item;
        tile.hidden = false;
        tile.href = this.address(item);
        tile.setAttribute('aria-posinset', item + 1);
        tile.setAttribute('aria-setsize', this.length);
        this.fill(tile, item);
      }
      tile.tabIndex = item === this.focus ? 0 : -1;
      const row = Math.floor(item / this.columns);
      tile.style.width = `${this.tileWidth}px`;
      tile.style.transform = `translate(${GAP + (item - row * this.columns) * (this.tileWidth + GAP)}px, ${Math.round(scroller.place(row * this.rowHeight + GAP))}px)`;
    }
  }

  #first() {
    return this.rowHeight ? Math.floor((this.scroller.top + this.rowHeight / 2) / this.rowHeight) * this.columns : null;
  }

  /** Frees a tile for other items; the keyboard stays with the grid. */
  #release(item, tile) {
    if (tile === document.activeElement) this.box.focus({ preventScroll: true });
    this.tiles.delete(item);
    this.free.push(tile);
    tile.hidden = true;
  }

  #create() {
    const tile = el('a', { class: 'tile', role: 'listitem' });
    tile.canvas = el('canvas', { 'aria-hidden': 'true' });
    tile.title1 = el('span', { class: 'name' });
    tile.kind = el('span', { class: 'kind' });
    tile.title2 = el('span', { class: 'sub' });
    tile.append(el('span', { class: 'picture' }, tile.canvas), tile.title1, el('span', { class: 'line' }, tile.kind, tile.title2));
    this.spacer.append(tile);
    return tile;
  }

  #key(event) {
    if (event.altKey || event.ctrlKey || event.metaKey || !this.length) return;
    const page = this.columns * Math.max(1, Math.floor(this.scroller.view / this.rowHeight));
    const steps = {
      ArrowRight: 1,
      ArrowLeft: -1,
      ArrowDown: this.columns,
      ArrowUp: -this.columns,
      PageDown: page,
      PageUp: -page,
      Home: -this.length,
      End: this.length,
    };
    if (event.key === 'Enter' || event.key === ' ') {
      event.preventDefault();
      this.open(this.focus);
    } else if (event.key in steps) {
      event.preventDefault();
      this.reveal(Math.max(0, Math.min(this.focus + steps[event.key], this.length - 1)));
    }
  }
}
