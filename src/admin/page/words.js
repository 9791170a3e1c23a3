// Numbers, bytes and times, as a person reads them.

/** Milliseconds that the server's clock is ahead of this one. */
let ahead = 0;

export function setServerTime(moment) {
  ahead = Date.parse(moment) - Date.now();
}

export function serverNow() {
  return Date.now() + ahead;
}

export const $ = (id) => document.getElementById(id);

/** Changes a text only where it differs. */
export function set(node, text) {
  const words = String(text);
  if (node.textContent !== words) node.textContent = words;
}

export const number = new Intl.NumberFormat('en');

export function bytes(count) {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let value = count;
  let unit = 0;
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${unit === 0 || value >= 99.5 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

export function duration(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min`;
  if (whole < 86_400) return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
  return `${Math.floor(whole / 86_400)} d ${Math.floor((whole % 86_400) / 3600)} h`;
}

export function secondsSince(moment) {
  return (serverNow() - Date.parse(moment)) / 1000;
}

export function ago(moment) {
  const seconds = secondsSince(moment);
  return seconds < 5 ? 'just now' : `${duration(seconds)} ago`;
}

export function setTime(node, moment) {
  node.hidden = !moment;
  if (!moment) return;
  if (node.dateTime !== moment) {
    node.dateTime = moment;
    node.title = new Date(moment).toLocaleString();
  }
  set(node, ago(moment));
}

export function percent(share) {
  return `${(Math.floor(share * 10) / 10).toFixed(1)} %`;
}

export function task(id) {
  return id === null ? 'No task' : `Task ${id}`;
}

export function count(amount, one, many) {
  return `${number.format(amount)} ${amount === 1 ? one : many}`;
}
