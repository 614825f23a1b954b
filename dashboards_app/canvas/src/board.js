// The grid of widgets: Gridstack, moving and sizing with mouse, touch and keys, and saving the layout.
import { GridStack } from "gridstack";

const COLUMNS = 12;
const MEDIUM = 6;
export const CELL_HEIGHT = 48;
const WIDE_PX = 960;
const NARROW_PX = 620;
const SAVE_AFTER_MS = 200;
const SMALLEST = { stat: [2, 3], line: [3, 4], bar: [3, 4], table: [3, 4], text: [2, 2] };

export class Board {
  #moving = false;
  #pending = null;
  #timer = null;
  #applying = false;

  /** @param options {element, canEdit, save: (layout) => Promise, onResize: (widgetId) => void, announce} */
  constructor({ element, canEdit, save, onResize, announce }) {
    Object.assign(this, { element, save, onResize, announce, canEdit });
    this.grid = GridStack.init(
      {
        column: COLUMNS,
        cellHeight: CELL_HEIGHT,
        margin: 6,
        float: false,
        animate: !matchMedia("(prefers-reduced-motion: reduce)").matches,
        draggable: { handle: ".w-head", scroll: true },
        resizable: { handles: "se" },
        disableDrag: !canEdit,
        disableResize: !canEdit,
      },
      element,
    );
    this.grid.on("dragstart resizestart", () => (this.#moving = true));
    this.grid.on("dragstop resizestop", () => {
      this.#moving = false;
      this.#changed();
      if (this.#pending) {
        const layout = this.#pending;
        this.#pending = null;
        this.apply(layout);
      }
    });
    this.grid.on("resizestop", (_event, item) => this.onResize(item.gridstackNode.id));
  }

  /** Whether what is on the screen is the saved layout rather than its narrow form. */
  get isWhole() {
    return this.grid.getColumn() === COLUMNS;
  }

  add(widgets) {
    this.grid.batchUpdate();
    for (const { spec, element } of widgets) {
      const content = document.createElement("div");
      content.className = "grid-stack-item-content";
      content.append(element);
      const item = document.createElement("div");
      item.className = "grid-stack-item";
      item.append(content);
      this.element.append(item);
      const [minW, minH] = SMALLEST[spec.type] ?? [2, 2];
      const place = spec.layout ?? { w: 4, h: 4 };
      this.grid.makeWidget(item, { id: spec.id, minW, minH, ...place, ...(spec.layout ? {} : { autoPosition: true }) });
      element.addEventListener("keydown", (event) => this.#key(event, item));
    }
    this.grid.batchUpdate(false);
    this.#fit();
    this.sizes = new ResizeObserver(() => this.#fit());
    this.sizes.observe(this.element);
  }

  /** As many columns as there is room for; narrower boards keep the reading order and cannot be edited. */
  #fit() {
    const width = this.element.clientWidth;
    const columns = width === 0 || width > WIDE_PX ? COLUMNS : width > NARROW_PX ? MEDIUM : 1;
    if (columns !== this.grid.getColumn()) {
      this.#applying = true;
      this.grid.column(columns, "list");
      this.#applying = false;
    }
    this.#lock();
  }

  #lock() {
    const free = this.canEdit && this.isWhole;
    this.element.classList.toggle("editable", free);
    this.grid.enableMove(free);
    this.grid.enableResize(free);
  }

  /** Where every widget is: {id: {x, y, w, h}}. */
  layout() {
    return Object.fromEntries(
      this.grid.engine.nodes.map(({ id, x, y, w, h }) => [id, { x, y, w, h }]).sort(([a], [b]) => (a < b ? -1 : 1)),
    );
  }

  /** Take over a layout that came from elsewhere; not under the hand of someone who is dragging. */
  apply(layout) {
    if (this.#moving) {
      this.#pending = layout;
      return;
    }
    const whole = this.isWhole;
    this.#applying = true;
    const columns = this.grid.getColumn();
    if (!whole) this.grid.column(COLUMNS, "none");
    const known = new Set(this.grid.engine.nodes.map((node) => node.id));
    const items = Object.entries(layout).filter(([id]) => known.has(id));
    this.grid.load(items.map(([id, { x, y, w, h }]) => ({ id, x, y, w, h })), false);
    if (!whole) this.grid.column(columns, "list");
    this.#applying = false;
  }

  #changed() {
    if (this.#applying || !this.isWhole) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.save(this.layout()), SAVE_AFTER_MS);
  }

  // Arrows move the focused widget by a column or row, with Shift they size it.
  #key(event, item) {
    if (event.target !== event.currentTarget || !this.canEdit || !this.isWhole) return;
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!step || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    const node = item.gridstackNode;
    const before = JSON.stringify(this.layout());
    if (event.shiftKey) {
      this.grid.update(item, {
        w: Math.max(node.minW ?? 1, Math.min(COLUMNS - node.x, node.w + step[0])),
        h: Math.max(node.minH ?? 1, node.h + step[1]),
      });
    } else {
      this.grid.update(item, { x: Math.max(0, Math.min(COLUMNS - node.w, node.x + step[0])), y: Math.max(0, node.y + step[1]) });
    }
    if (JSON.stringify(this.layout()) === before) return;
    this.announce(`Column ${node.x + 1}, row ${node.y + 1}, ${node.w} wide, ${node.h} high`);
    this.#changed();
  }

  destroy() {
    clearTimeout(this.#timer);
    this.sizes?.disconnect();
    this.grid.destroy(false);
  }
}
