// The two line charts, drawn by uPlot. Series differ by weight and dash, not
// only by colour. The legend under the title shows the values at the cursor,
// or the newest ones.

import { $, el, setText, setAttribute, asTable } from "./dom.js";
import { figure, loss, count, duration, known, clock } from "./figures.js";

/** Reads a colour of the style sheet; charts ask at every redraw, so that they follow the theme. */
function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

const height = 240;

class LineChart {
  /**
   * series: {label, sample, stroke, width, dash, fill, format, scale, points,
   * paths}; bands are areas between two of them, as uPlot wants them.
   */
  constructor(name, awaited, { x, series, bands, scales, axes }) {
    this.plot = $(name + "-plot");
    this.legend = $(name + "-legend");
    this.x = x;
    this.scales = scales;
    this.axes = axes;
    this.where = el("span", { class: "where" });
    this.empty = el("p", { class: "empty" }, awaited);
    this.plot.append(this.empty);
    this.draws(series, bands);
    new ResizeObserver(() => this.resize()).observe(this.plot);
    this.plot.addEventListener("keydown", (e) => this.key(e));
    this.plot.addEventListener("focus", () => setAttribute(this.legend, "aria-live", "polite"));
    this.plot.addEventListener("blur", () => {
      setAttribute(this.legend, "aria-live", null);
      this.u.setCursor({ left: -10, top: -10 });
    });
  }

  /** Draws these series from now on; they have no figures yet. */
  draws(series, bands) {
    this.series = series;
    this.bands = bands;
    this.data = this.said = [[], ...series.map(() => [])];
    this.values = series.map(() => el("b"));
    this.legend.replaceChildren(...series.flatMap((s, n) => [
      el("span", { class: "key" }, el("span", { class: s.sample, "aria-hidden": "true" }), s.label + " ", this.values[n]), " ",
    ]), this.where);
    this.build();
  }

  build() {
    this.u?.destroy();
    const font = "12px " + getComputedStyle(document.body).fontFamily;
    const axis = (more) => ({
      stroke: () => colour("--ink-2"),
      grid: { stroke: () => colour("--line"), width: 1 },
      ticks: { show: false },
      font,
      ...more,
    });
    this.u = new uPlot({
      width: Math.max(this.plot.clientWidth, 100),
      height,
      legend: { show: false },
      padding: [10, 12, 0, 0],
      cursor: { y: false, drag: { x: false, y: false }, points: { size: 7 } },
      scales: { x: { time: false, ...this.x.scale }, ...this.scales },
      axes: [axis({ values: (_, splits) => splits.map((v) => (v === null ? "" : this.x.tick(v))), space: 70, size: 28, ...this.x.axis }), ...this.axes.map(axis)],
      series: [{}, ...this.series.map((s) => ({
        stroke: () => colour(s.stroke),
        fill: s.fill && (() => colour(s.fill)),
        width: s.width,
        dash: s.dash,
        scale: s.scale ?? "y",
        paths: s.paths,
        spanGaps: s.spanGaps ?? true,
        points: { show: s.points ?? false, size: 6, fill: () => colour(s.stroke) },
      }))],
      bands: this.bands,
      hooks: { setCursor: [() => this.read()], draw: [(u) => this.mark?.(u)] },
    }, this.data, this.plot);
    setAttribute(this.u.root, "aria-hidden", "true");
    this.u.root.classList.toggle("bare", !this.empty.hidden);
  }

  /** said is what the legend says of each series, where that is not what is drawn. */
  set(data, said = data) {
    this.data = data;
    this.said = said;
    this.u.setData(data);
    this.empty.hidden = data[0].length > 0;
    this.u.root.classList.toggle("bare", !this.empty.hidden);
    this.read();
  }

  /** Fills the legend with the values at the cursor; without one, the newest. */
  read() {
    if (!this.u) return;
    const i = this.u.cursor.idx;
    const at = i === null || i === undefined || this.data[0].length === 0 ? null : i;
    this.series.forEach((s, n) => setText(this.values[n], known(at === null ? newest(this.said[n + 1]) : before(this.said[n + 1], at), s.format)));
    setText(this.where, at === null ? "" : this.x.say(this.data[0][at]));
  }

  key(e) {
    const n = this.data[0].length;
    const steps = { ArrowLeft: -1, ArrowRight: 1, PageUp: -20, PageDown: 20, Home: -n, End: n };
    if (!(e.key in steps) || n === 0) return;
    e.preventDefault();
    const i = Math.min(Math.max((this.u.cursor.idx ?? n - 1) + steps[e.key], 0), n - 1);
    this.u.setCursor({ left: this.u.valToPos(this.data[0][i], "x"), top: 0 });
  }

  resize() {
    const width = this.plot.clientWidth;
    if (width > 0 && width !== this.u.width) this.u.setSize({ width, height });
  }

  restyle() {
    this.u.redraw(false);
  }
}

function newest(values) {
  return before(values, values.length - 1);
}

/** The last known value at or before an index. */
function before(values, i) {
  while (i >= 0 && (values[i] === null || values[i] === undefined)) i--;
  return i >= 0 ? values[i] : null;
}

/** Loss: training thin, held-out bold, reference models dashed. */
export class LossChart extends LineChart {
  constructor() {
    super("loss", "No commit yet: the curve begins with the first one.", {
      x: { tick: (v) => figure(v).replace(/\.0+ /, " "), say: (v) => "at " + figure(v) + " tokens" },
      scales: { y: { range: (_, low, high) => (low === null ? [0, 6] : uPlot.rangeNum(low, high, 0.08, false)) } },
      axes: [{ size: 44, values: (_, splits) => splits.map((v) => String(Number(v.toFixed(3)))) }],
      series: [
        { label: "train", sample: "sample thin", stroke: "--series-1", width: 1.25, format: loss },
        { label: "held-out", sample: "sample bold", stroke: "--ink", width: 3, format: loss, points: true },
        { label: "bigram", sample: "sample dashed", stroke: "--series-3", width: 1.25, dash: [6, 4], format: loss },
        { label: "unigram", sample: "sample dotted", stroke: "--series-4", width: 1.25, dash: [2, 3], format: loss },
      ],
    });
    this.button = $("loss-log");
    this.button.addEventListener("click", () => this.logarithmic(this.button.getAttribute("aria-pressed") !== "true"));
    asTable($("loss-as-table"), $("loss-table"), () => ({
      caption: "Loss in nats a token, as of " + clock(new Date()),
      columns: [
        { head: "tokens", number: true, cell: (r) => count(r[0]) },
        { head: "train", number: true, cell: (r) => known(r[1], loss) },
        { head: "held-out", number: true, cell: (r) => known(r[2], loss) },
      ],
      rows: this.rows ?? [],
    }), () => ({
      caption: "Workers that joined or left",
      columns: [
        { head: "tokens", number: true, cell: (m) => count(m.tokens) },
        { head: "", cell: (m) => (m.joined ? "▲ joined" : "▼ left") },
        { head: "who", wide: true, cell: (m) => m.text },
      ],
      rows: this.learning?.moves ?? [],
    }));
  }

  logarithmic(on) {
    this.button.setAttribute("aria-pressed", String(on));
    this.x.scale = on ? { distr: 3, range: (_, low, high) => [low, high] } : {};
    this.build();
    this.show(this.learning);
  }

  /** Ticks on the axis where commits are; joins ▲ and leaves ▼ above them. */
  mark(u) {
    const { ctx, bbox } = u;
    const scale = devicePixelRatio;
    const floor = bbox.top + bbox.height;
    const inside = (x) => x >= bbox.left && x <= bbox.left + bbox.width;
    ctx.save();
    ctx.strokeStyle = colour("--edge");
    ctx.lineWidth = scale;
    ctx.beginPath();
    let last = -Infinity;
    for (const p of this.learning?.curve ?? []) {
      const x = u.valToPos(p.tokens, "x", true);
      if (!inside(x) || x - last < 3 * scale) continue;
      last = x;
      ctx.moveTo(x, floor);
      ctx.lineTo(x, floor - 4 * scale);
    }
    ctx.stroke();
    ctx.font = 10 * scale + "px sans-serif";
    ctx.textAlign = "center";
    ctx.fillStyle = colour("--ink-2");
    for (const m of this.learning?.moves ?? []) {
      const x = u.valToPos(m.tokens, "x", true);
      if (inside(x)) ctx.fillText(m.joined ? "▲" : "▼", x, floor - (m.joined ? 7 : 17) * scale);
    }
    ctx.restore();
  }

  show(learning, commits) {
    if (!learning) return;
    this.learning = learning;
    this.commits = commits ?? this.commits;
    if (this.commits > 0) this.empty.textContent = "This peer hears of no loss; the coordinator's page has the curve.";
    const at = new Map();
    const put = (points, n) => {
      for (const p of points ?? []) {
        if (this.x.scale?.distr === 3 && p.tokens <= 0) continue;
        const row = at.get(p.tokens) ?? [p.tokens, null, null];
        row[n] = p.loss;
        at.set(p.tokens, row);
      }
    };
    put(learning.curve, 1);
    put(learning.held_out_curve, 2);
    this.rows = [...at.values()].sort((a, b) => a[0] - b[0]);
    const x = this.rows.map((r) => r[0]);
    const level = (v) => (v === null || v === undefined ? x.map(() => null) : x.map(() => v));
    this.set([x, this.rows.map((r) => r[1]), this.rows.map((r) => r[2]), level(learning.bigram), level(learning.unigram)]);
  }
}

/**
 * Tokens a second of all workers, stacked by class of device, this peer's own
 * share outlined at the bottom, and how many train.
 */
export class RateChart extends LineChart {
  constructor() {
    super("rate", "No worker trains yet. The command that joins one stands under Peers.", {
      x: { tick: (v) => duration(Math.max(v, 0)).replace(/ 0 [sm]$|\.0(?= s$)/, ""), say: (v) => "at " + duration(Math.max(v, 0)), axis: { space: 70, incrs: [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 86400] } },
      scales: {
        y: { range: (_, low, high) => [0, high > 0 ? high * 1.15 : 1] },
        workers: { range: (_, low, high) => [0, Math.max(high ?? 0, 1) * 2] },
      },
      axes: [
        { size: 52, values: (_, splits) => splits.map(figure) },
        { size: 30, side: 1, scale: "workers", grid: { show: false }, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500], values: (_, splits) => splits.map((v) => (Number.isInteger(v) ? String(v) : "")) },
      ],
      ...stack([], false),
    });
    this.classes = [];
    this.history = [];
    this.shape = "";
    asTable($("rate-as-table"), $("rate-table"), () => ({
      caption: "Tokens a second, as of " + clock(new Date()),
      columns: [
        { head: "time", number: true, cell: (r) => duration(r.at) },
        { head: "tokens/s", number: true, cell: (r) => figure(r.rate) },
        ...this.classes.map(({ name, at }) => ({ head: name, number: true, cell: (r) => figure(r.classes?.[at] ?? 0) })),
        ...(this.trains ? [{ head: "you", number: true, cell: (r) => known(r.own > 0 ? r.own : null, figure) }] : []),
        { head: "workers", number: true, cell: (r) => count(r.peers) },
      ],
      rows: this.history,
    }));
  }

  /** trains tells whether this peer does; own is then the class of its device, which lies at the bottom. */
  show(speed, trains, own) {
    this.trains = trains;
    this.history = speed.history ?? [];
    if (!this.history.some((r) => r.peers > 0)) this.history = [];
    const all = (speed.classes ?? []).map((name, at) => ({ name, at }));
    const classes = [...all.filter((c) => c.name === own), ...all.filter((c) => c.name !== own)];
    const shape = trains + classes.map((c) => c.name).join();
    if (shape !== this.shape) {
      this.shape = shape;
      this.classes = classes;
      const { series, bands } = stack(classes, trains);
      this.draws(series, bands);
    }
    const shares = classes.map(({ at }) => this.history.map((r) => r.classes?.[at] ?? 0));
    const heights = [];
    for (const s of shares) heights.push(s.map((v, i) => v + (heights.at(-1)?.[i] ?? 0)));
    const x = this.history.map((r) => r.at);
    const rest = [this.history.map((r) => r.rate)];
    if (trains) rest.push(this.history.map((r) => (r.own > 0 ? r.own : null)));
    rest.push(this.history.map((r) => r.peers));
    this.set([x, ...heights, ...rest], [x, ...shares, ...rest]);
  }
}

/** The series of a chart of rates with these classes, from the bottom up, and the areas between them. */
function stack(classes, trains) {
  const layer = (n) => ({ sample: "swatch class-" + (n + 1), stroke: "--class-" + (n + 1), width: 0.5, format: figure, spanGaps: false });
  const fill = (n) => "--class-" + (n + 1) + "-fill";
  return {
    series: [
      ...classes.map((c, n) => ({ label: c.name, ...layer(n), fill: n === 0 ? fill(0) : undefined })),
      { label: "all workers", sample: "sample bold", stroke: "--ink", width: 1.5, format: figure, spanGaps: false },
      ...(trains ? [{ label: "you", sample: "sample own", stroke: "--accent", width: 2, format: figure, spanGaps: false }] : []),
      { label: "workers", sample: "sample dashed", stroke: "--ink-2", width: 1.25, dash: [6, 4], format: count, scale: "workers", paths: uPlot.paths.stepped({ align: 1 }) },
    ],
    bands: classes.slice(1).map((_, n) => ({ series: [n + 2, n + 1], fill: () => colour(fill(n + 1)) })),
  };
}
