// How figures are printed; status/figures.go says the same for terminals.

export const unknown = "–";

function significant(v) {
  const text = v.toExponential(2);
  const e = text.indexOf("e");
  return [Number(text), Number(text.slice(e + 1))];
}

function group(digits) {
  return digits.includes(".") ? digits : digits.replace(/\B(?=(\d{3})+$)/g, ",");
}

function scaled(r, exponent, steps) {
  const step = Math.min(Math.floor(exponent / 3), steps.length);
  const decimals = Math.max(2 - (exponent - 3 * step), 0);
  return group((r / 1000 ** step).toFixed(decimals)) + " " + steps[step - 1];
}

/** Three significant figures, an SI step from 10,000 on. */
export function figure(v) {
  if (!Number.isFinite(v)) return unknown;
  const [r, exponent] = significant(v);
  const a = Math.abs(r);
  if (a >= 10000) return scaled(r, exponent, "kMBT");
  if (a >= 1000) return group(r.toFixed(0));
  if (Number.isInteger(v)) return v.toFixed(0);
  return r.toFixed(Math.min(Math.max(2 - exponent, 0), 8));
}

/** A size: "512 B", "1.90 MB". */
export function bytes(v) {
  if (!Number.isFinite(v)) return unknown;
  const [r, exponent] = significant(v);
  if (Math.abs(r) < 1000) return Math.round(v).toFixed(0) + " B";
  return scaled(r, exponent, "kMGTP") + "B";
}

/** A whole number in full: "8,812". */
export function count(n) {
  return Number.isFinite(n) ? group(Math.trunc(n).toFixed(0)) : unknown;
}

/** Seconds in at most two units: "310 ms", "4.2 s", "2 m 10 s". */
export function duration(seconds) {
  if (!Number.isFinite(seconds) || seconds < 0 || seconds > 1e12) return unknown;
  const ms = Math.floor(seconds * 1000 + 0.5);
  if (ms === 0) return "0 s";
  if (ms < 1000) return ms + " ms";
  const tenths = Math.floor(seconds * 10 + 0.5);
  if (tenths < 100) return (tenths / 10).toFixed(1) + " s";
  const s = Math.floor(seconds + 0.5);
  if (s < 60) return s + " s";
  if (s < 3600) return Math.floor(s / 60) + " m " + (s % 60) + " s";
  if (s < 86400) return Math.floor(s / 3600) + " h " + Math.floor((s % 3600) / 60) + " m";
  return group(String(Math.floor(s / 86400))) + " d " + Math.floor((s % 86400) / 3600) + " h";
}

/** A share in whole percent. */
export function percent(share) {
  if (!Number.isFinite(share)) return unknown;
  const p = Math.floor(share * 100 + 0.5);
  if (share > 0 && p < 1) return "<1 %";
  if (share < 1 && p >= 100) return "99 %";
  return p + " %";
}

/** Bits a second. */
export function bitRate(v) {
  return v < 1000 ? Math.round(v) + " bit/s" : scaled(...significant(v), "kMG") + "bit/s";
}

/** Nats a token. */
export function loss(v) {
  return Number.isFinite(v) ? v.toFixed(3) : unknown;
}

/** A figure that may be missing. */
export function known(v, format) {
  return v === null || v === undefined ? unknown : format(v);
}

/** The first and last digits of a hash, enough to compare by eye. */
export function shortHash(h) {
  return !h || /^0*$/.test(h) ? unknown : h.slice(0, 4) + "…" + h.slice(-2);
}

/** The time of day of a Date, for people here. */
export function clock(date) {
  return date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
}
