// The ledger: its newest entries, and behind each, on demand, all that it says.

import { $, el, setText, Table } from "./dom.js";
import { count, bytes, figure } from "./figures.js";

export class Ledger {
  constructor(headers) {
    this.headers = headers;
    this.open = null; // height whose details are shown
    this.table = new Table($("ledger-table"), [
      { head: "height", number: true, cell: (e) => count(e.height), press: (e) => this.choose(e.height), pressed: (e) => e.height === this.open },
      { head: "entry", cell: (e) => e.kind },
      { head: "what", wide: true, cell: (e) => e.text },
    ], { key: (e) => e.height, empty: "No entry yet." });
    $("entry-close").addEventListener("click", () => this.choose(this.open));
  }

  show(entries) {
    this.entries = entries ?? [];
    this.table.show(this.entries);
  }

  /** Shows an entry's details; the same one again hides them. */
  async choose(height) {
    this.open = this.open === height ? null : height;
    this.table.show(this.entries);
    $("entry").hidden = this.open === null;
    if (this.open === null) return;
    const place = $("entry-detail");
    setText("entry-title", "Entry " + count(height));
    place.replaceChildren(el("p", {}, "reading …"));
    let rows;
    try {
      const answer = await fetch("/api/v1/ledger/" + height, { headers: this.headers(), cache: "no-store" });
      const said = await answer.json();
      if (!answer.ok) throw new Error(said.error);
      rows = detail(said);
    } catch (e) {
      rows = [el("p", { class: "state bad" }, "✕ " + (e.name === "TypeError" ? "the program does not answer" : e.message))];
    }
    if (this.open === height) place.replaceChildren(...rows);
  }
}

function detail(e) {
  const list = el("dl");
  for (const [name, text] of [["entry", e.kind + ": " + e.text], ["term", count(e.term)], ["hash", e.hash], ["state", e.state], ["table", e.missing]]) {
    if (text) list.append(el("dt", {}, name), el("dd", {}, text));
  }
  const parts = [list];
  const table = (caption, columns, rows) => {
    if (!rows?.length) return;
    const place = el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": caption });
    new Table(place, columns, { caption }).show(rows);
    parts.push(place);
  };
  table("Contributors, in the order of summing", [
    { head: "worker", cell: (c) => (c.name ? c.name + ", " : "") + "slot " + c.slot },
    { head: "tokens", number: true, cell: (c) => figure(c.tokens) },
    { head: "steps", number: true, cell: (c) => count(c.from_step) + "–" + count(c.to_step) },
    { head: "weight", number: true, cell: (c) => figure(c.weight) },
    { head: "clip", number: true, title: "factor that its norm was clipped by", cell: (c) => (c.clip === 1 ? "none" : c.clip.toFixed(3)) },
  ], e.contributors);
  table("Slabs and who summed them", [
    { head: "slab", number: true, cell: (s) => count(s.slab) },
    { head: "owner", cell: (s) => s.owner },
    { head: "members", number: true, cell: (s) => count(s.members) },
    { head: "result", number: true, cell: (s) => bytes(s.bytes) },
  ], e.slabs);
  return parts;
}
