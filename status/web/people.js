// What the model says at commits, side by side, and who gave how much.

import { $, el, setText, Table } from "./dom.js";
import { count, figure, loss } from "./figures.js";

let shown = ""; // key of the samples drawn

export function samples(list) {
  list ??= [];
  $("samples").hidden = list.length === 0;
  if (list.length === 0) return;
  const key = list.map((s) => s.height).join(" ");
  if (key === shown) return;
  shown = key;
  setText("samples-prompt", list.at(-1).prompt);
  $("samples-list").replaceChildren(...[...list].reverse().map((s) => el("figure", {},
    el("figcaption", {}, el("b", {}, "height " + count(s.height)), " · " + figure(s.tokens) + " tokens · held-out " + loss(s.loss)),
    el("pre", {}, s.text),
  )));
}

const table = new Table($("thanks-table"), [
  { head: "peer", cell: (g) => ({ text: (g.name || g.id.slice(0, 8)) + (g.you ? " (you)" : ""), title: g.id }) },
  { head: "rank", number: true, cell: (g) => count(g.rank), sort: (g) => -g.rank },
  { head: "tokens", number: true, title: "of its contributions in commits", cell: (g) => figure(g.tokens), sort: (g) => g.tokens },
  { head: "in commits", number: true, cell: (g) => count(g.commits), sort: (g) => g.commits },
], { key: (g) => g.id, sortable: true, rowClass: (g) => (g.you ? "you" : null), empty: "Nobody's work is in a commit yet." });

export function thanks(t) {
  table.show(t?.ranks ?? []);
  const givers = t?.givers ?? 0;
  setText("thanks-count", givers > 0 ? "to " + count(givers) + (givers === 1 ? " peer" : " peers") + (t.since > 1 ? ", counted from height " + count(t.since) : "") : "");
}
