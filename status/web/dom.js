// Small helpers for the document. Text goes in as text, never as markup, and
// only when it changed, so that selections and focus stay where they are.

export const $ = (id) => document.getElementById(id);

/** Makes an element: el("p", {class: "x"}, "text", child). */
export function el(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

/** The same for SVG. */
export function svg(name, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}

function fill(node, attributes, children) {
  for (const [k, v] of Object.entries(attributes)) if (v !== undefined && v !== null) node.setAttribute(k, v);
  node.append(...children.filter((c) => c !== null && c !== undefined));
  return node;
}

export function setText(node, text) {
  if (typeof node === "string") node = $(node);
  if (node.textContent !== text) node.textContent = text;
}

export function setAttribute(node, name, value) {
  if (value === null || value === undefined) node.removeAttribute(name);
  else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
}

/** Shows a state: a sign and a word, and a colour beside them. */
export function setState(node, kind, text) {
  if (typeof node === "string") node = $(node);
  const signs = { good: "●", busy: "◐", bad: "✕", none: "○" };
  setAttribute(node, "class", "state " + kind);
  setText(node, signs[kind] + " " + text);
}

/**
 * A table whose rows are kept by key. columns: {head, title, cell(row) -> text
 * or {text, title, kind}, number, press(row), shown()}. The first column is the
 * row's heading; press makes a column's cells buttons, pressed(row) tells which
 * is; shown tells whether a column is there, where it is not always.
 */
export class Table {
  constructor(place, columns, { caption, key, sortable, rowClass, empty } = {}) {
    this.columns = columns;
    this.key = key ?? ((_, i) => i);
    this.rowClass = rowClass ?? (() => null);
    this.sort = null; // {column, up}
    this.rows = [];
    this.byKey = new Map();
    this.heads = columns.map((c) => this.makeHead(c, sortable));
    this.body = el("tbody");
    this.table = el("table", {}, caption ? el("caption", {}, caption) : null, el("thead", {}, el("tr", {}, ...this.heads)), this.body);
    this.empty = el("p", { class: "empty", hidden: "" }, empty ?? "Nothing yet.");
    place.replaceChildren(this.table, this.empty);
  }

  makeHead(column, sortable) {
    const th = el("th", { scope: "col", class: column.number ? "number" : null, title: column.title });
    if (!sortable || !column.sort) {
      th.append(column.head);
      return th;
    }
    const button = el("button", { type: "button" }, column.head);
    button.addEventListener("click", () => {
      if (this.sort?.column !== column) this.sort = { column, up: !column.number };
      else if (this.sort.up === !column.number) this.sort.up = !this.sort.up;
      else this.sort = null;
      this.columns.forEach((c, i) => setAttribute(this.heads[i], "aria-sort", this.sort?.column === c ? (this.sort.up ? "ascending" : "descending") : null));
      this.show(this.rows);
    });
    th.append(button);
    return th;
  }

  show(rows) {
    this.rows = rows;
    if (this.sort) {
      const { column, up } = this.sort;
      const order = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
      rows = [...rows].sort((a, b) => order(column.sort(a), column.sort(b)) * (up ? 1 : -1));
    }
    this.table.hidden = rows.length === 0;
    this.empty.hidden = rows.length > 0;
    const hidden = this.columns.map((c) => c.shown !== undefined && !c.shown());
    this.heads.forEach((th, n) => (th.hidden = hidden[n]));
    const seen = new Set();
    rows.forEach((row, i) => {
      const key = this.key(row, i);
      seen.add(key);
      let tr = this.byKey.get(key);
      if (!tr) {
        tr = el("tr", {}, ...this.columns.map((c, n) => el(n === 0 ? "th" : "td", { scope: n === 0 ? "row" : null })));
        this.byKey.set(key, tr);
      }
      setAttribute(tr, "class", this.rowClass(row));
      this.columns.forEach((c, n) => {
        tr.children[n].hidden = hidden[n];
        if (!hidden[n]) this.setCell(tr.children[n], c, c.cell(row, i), row);
      });
      if (this.body.children[i] !== tr) this.body.insertBefore(tr, this.body.children[i] ?? null);
    });
    for (const [key, tr] of this.byKey) {
      if (!seen.has(key)) {
        tr.remove();
        this.byKey.delete(key);
      }
    }
  }

  setCell(node, column, value, row) {
    const { text, title, kind } = typeof value === "object" ? value : { text: value };
    if (column.press) {
      if (!node.firstElementChild) {
        node.append(el("button", { type: "button", class: "cell" }));
        node.firstElementChild.addEventListener("click", () => column.press(row));
      }
      setAttribute(node.firstElementChild, "aria-expanded", column.pressed(row));
    }
    setAttribute(node, "class", [column.number ? "number" : column.wide ? "wide" : "", kind ?? ""].join(" ").trim() || null);
    setAttribute(node, "title", title);
    setText(column.press ? node.firstElementChild : node, text);
  }
}

/**
 * A button that shows a chart's figures as a table, frozen at that moment so
 * that they can be read and copied: each make() -> {columns, rows, caption}.
 */
export function asTable(button, place, ...makes) {
  button.addEventListener("click", () => {
    const open = place.hidden;
    if (open) {
      place.replaceChildren(...makes.map((make) => {
        const { columns, rows, caption } = make();
        const part = el("div");
        new Table(part, columns, { caption }).show(rows);
        return part;
      }));
    } else {
      place.replaceChildren();
    }
    place.hidden = !open;
    button.setAttribute("aria-expanded", String(open));
  });
}
