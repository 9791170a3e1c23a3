// What is shown. Whatever comes from outside is put into the document as text, never as markup.

import { token } from './actions.js';
import { $, ago, bytes, count, duration, number, percent, secondsSince, serverNow, set, setTime, task } from './words.js';

const MINUTES_SHOWN = 10;

/** What is known. */
export const model = {
  now: null,
  lists: { failures: [], dead: [] },
  samples: [],
  mayAct: false,
  version: null,
  trouble: null,
  connection: 'new',
  /** When the connection was lost. */
  lostAt: null,
};

function field(node, name) {
  return node.querySelector(`[data-field="${name}"]`);
}

/** Makes the children of `parent` show `items`. What is there stays the same element, with the focus in it. */
function sync(parent, template, items, keyOf, update) {
  const there = new Map();
  for (const node of parent.children) there.set(node.dataset.key, node);
  let place = parent.firstElementChild;
  for (const item of items) {
    const key = keyOf(item);
    let node = there.get(key);
    there.delete(key);
    if (!node) {
      node = $(template).content.firstElementChild.cloneNode(true);
      node.dataset.key = key;
    }
    node.item = item;
    update(node, item);
    if (node === place) place = place.nextElementSibling;
    else parent.insertBefore(node, place);
  }
  for (const gone of there.values()) {
    // Whoever was in it is not thrown back to the top of the page.
    if (gone.contains(document.activeElement)) parent.closest('section').querySelector('h2').focus();
    gone.remove();
  }
  // Two of one key: the older element is nobody's.
  while (parent.childElementCount > items.length) parent.lastElementChild.remove();
}

function showList(id, filled) {
  $(`${id}-none`).hidden = filled;
  ($(`${id}-table`) ?? $(id)).hidden = !filled;
}

function showQueue(now) {
  const { depths } = now;
  for (const [id, name] of [['waiting', 'waiting'], ['running-count', 'running'], ['delayed', 'delayed'], ['untold', 'untold'], ['dead-count', 'dead'], ['done', 'done']]) {
    set($(id), number.format(depths[name]));
  }
  $('dead-count').closest('div').toggleAttribute('data-alarm', depths.dead > 0);
  set($('oldest'), now.oldest_waiting_seconds === null ? '' : `oldest ${duration(now.oldest_waiting_seconds)}`);
  const speed = now.running.reduce((sum, one) => sum + (one.speed ?? 0), 0);
  set($('total-speed'), now.running.length > 0 ? `${bytes(speed)}/s in all` : '');
  set($('last-done'), now.last_done ? `task ${now.last_done.task_id}, ${ago(now.last_done.at)}` : 'since the beginning');
}

function showRunning(now) {
  showList('running', now.running.length > 0);
  sync($('running'), 'task-template', now.running, (one) => `${one.task_id} ${one.instance} ${one.since}`, (node, one) => {
    set(field(node, 'task'), task(one.task_id));
    set(field(node, 'course'), one.course ?? '');
    const known = one.percent !== null;
    set(field(node, 'percent'), known ? percent(one.percent) : '');
    const bar = field(node, 'bar');
    bar.setAttribute('aria-label', `${task(one.task_id)}, whole course`);
    if (known) bar.value = one.percent;
    else bar.removeAttribute('value');
    field(node, 'lecture-row').hidden = one.file === null;
    const lecture = one.lecture === null || one.lectures === null ? '' : `Lecture ${one.lecture} of ${one.lectures}: `;
    set(field(node, 'lecture'), lecture + (one.file ?? ''));
    const fileBar = field(node, 'file-bar');
    fileBar.setAttribute('aria-label', `${task(one.task_id)}, current file`);
    fileBar.value = one.file_percent ?? 0;
    set(field(node, 'file-percent'), percent(one.file_percent ?? 0));
    set(field(node, 'status'), one.status);
    set(field(node, 'facts'), facts(one).join(' · '));
  });
}

function facts(one) {
  const words = [`on ${one.instance}`];
  if (one.attempt !== null) words.push(`attempt ${one.attempt}`);
  if (one.since !== null) words.push(`for ${duration(secondsSince(one.since))}`);
  if (one.bytes !== null) words.push(one.total_bytes === null ? bytes(one.bytes) : `${bytes(one.bytes)} of ${bytes(one.total_bytes)}`);
  if (one.speed !== null) words.push(`${bytes(one.speed)}/s`);
  if (one.still_since !== null) words.push(`stands still for ${duration(secondsSince(one.still_since))}`);
  if (one.remaining_seconds !== null) words.push(`about ${duration(one.remaining_seconds)} left`);
  return words;
}

/** One for each kind: what to do about it is the same. */
function kinds(failures) {
  const found = new Map();
  for (const failure of failures) {
    const kind = found.get(failure.kind);
    if (kind) kind.times += 1;
    else found.set(failure.kind, { ...failure, times: 1 });
  }
  return [...found.values()];
}

function showFailures({ failures, dead }) {
  const found = kinds(failures);
  showList('failures', found.length > 0);
  sync($('failures'), 'failure-template', found, (one) => one.kind, (node, one) => {
    set(field(node, 'kind'), one.kind);
    set(field(node, 'times'), one.times === 1 ? 'once' : `${one.times} times`);
    set(field(node, 'meaning'), one.meaning ?? '');
    set(field(node, 'remedy'), one.remedy ?? '');
    setTime(field(node, 'at'), one.at);
    const due = one.retry_at === null ? '' : `; tried again ${secondsSince(one.retry_at) > 0 ? 'now' : `in ${duration(-secondsSince(one.retry_at))}`}`;
    set(field(node, 'message'), `${task(one.task_id)}: ${one.message}${due}`);
    const retry = field(node, 'retry');
    retry.hidden = !dead.some((entry) => entry.kind === one.kind);
    retry.setAttribute('aria-label', `Retry these: all that failed with ${one.kind}`);
  });
}

function showDead({ dead }) {
  const all = model.now?.depths.dead ?? dead.length;
  showList('dead', dead.length > 0);
  $('dead-all').hidden = dead.length === 0;
  set($('dead-shown'), all > dead.length ? `the newest ${dead.length} of ${number.format(all)}` : '');
  sync($('dead'), 'dead-template', dead, (one) => one.id, (node, one) => {
    set(field(node, 'task'), task(one.task_id));
    set(field(node, 'course'), one.course_url ?? '');
    set(field(node, 'kind'), one.kind);
    set(field(node, 'message'), one.message);
    set(field(node, 'attempts'), one.attempts);
    setTime(field(node, 'at'), one.failed_at);
    field(node, 'retry').setAttribute('aria-label', `Retry ${task(one.task_id).toLowerCase()}`);
    field(node, 'purge').setAttribute('aria-label', `Purge ${task(one.task_id).toLowerCase()}`);
  });
}

function showInstances(now) {
  showList('instances', now.instances.length > 0);
  sync($('instances'), 'instance-template', now.instances, (one) => one.identity, (node, one) => {
    set(field(node, 'name'), one.name);
    const expired = one.lease_seconds < 0;
    const state = field(node, 'state');
    set(state, expired ? 'silent' : one.pause ? `paused: ${one.pause.reason}` : now.pause ? 'paused with all' : 'takes jobs');
    state.dataset.state = expired ? 'bad' : one.pause || now.pause ? 'paused' : 'running';
    set(field(node, 'running'), count(one.running, 'job', 'jobs'));
    set(field(node, 'lease'), expired ? `ran out ${duration(-one.lease_seconds)} ago` : `${duration(one.lease_seconds)} left`);
    setTime(field(node, 'started'), one.started_at);
    const pause = field(node, 'pause');
    set(pause, one.pause ? 'Resume' : 'Pause');
    pause.setAttribute('aria-label', `${one.pause ? 'Resume' : 'Pause'} ${one.name}`);
  });
}

function showCounts(now) {
  const counts = Object.entries(now.counts);
  showList('counts', counts.length > 0);
  const parent = $('counts');
  while (parent.children.length > counts.length) parent.lastElementChild.remove();
  counts.forEach(([name, amount], index) => {
    let row = parent.children[index];
    if (!row) {
      row = parent.appendChild(document.createElement('div'));
      row.append(document.createElement('dt'), document.createElement('dd'));
    }
    set(row.firstElementChild, name);
    set(row.lastElementChild, number.format(amount));
  });
}

function showSpeed() {
  const width = 600;
  const height = 100;
  const end = serverNow();
  const begin = end - MINUTES_SHOWN * 60_000;
  model.samples = model.samples.filter((sample) => sample.at >= begin);
  const top = Math.max(1, ...model.samples.map((sample) => sample.speed));
  const points = model.samples.map(({ at, speed }) => {
    const x = Math.min(width, ((at - begin) / (end - begin)) * width);
    return [x.toFixed(1), (height - (speed / top) * (height - 8)).toFixed(1)];
  });
  const line = points.map(([x, y], index) => `${index === 0 ? 'M' : 'L'}${x} ${y}`).join('');
  $('chart-line').setAttribute('d', line);
  $('chart-area').setAttribute('d', points.length > 1 ? `${line}L${points.at(-1)[0]} ${height}L${points[0][0]} ${height}Z` : '');
  const latest = model.samples.at(-1)?.speed ?? 0;
  set($('chart-top'), top > 1 ? `${bytes(top)}/s` : '');
  set($('speed-words'), top > 1 ? `${bytes(latest)}/s, at most ${bytes(top)}/s` : 'nothing received');
}

export function showState() {
  const { now, connection, trouble, mayAct } = model;
  document.body.dataset.connection = connection;
  $('controls').hidden = !mayAct;
  $('read-only').hidden = mayAct || connection === 'new';
  document.body.toggleAttribute('data-acting', mayAct);
  const known = token() !== null;
  set($('token'), known ? 'Forget token' : 'Enter token');
  let state = ['new', 'Connecting'];
  if (connection === 'lost') state = ['lost', 'Connection lost'];
  else if (trouble) state = ['lost', 'Redis does not answer'];
  else if (now?.pause) state = ['paused', 'Paused'];
  else if (now && now.state !== 'running') state = ['waiting', now.state === 'stopping' ? 'Stopping' : 'Not taking jobs'];
  else if (now) state = ['running', 'Running'];
  const pill = $('state');
  if (pill.dataset.state !== state[0] || pill.textContent !== state[1]) {
    // Once for each change, not for every number that moves.
    if (pill.dataset.state !== 'new') set($('announcer'), state[1]);
    [pill.dataset.state] = state;
    set(pill, state[1]);
  }
  const paused = Boolean(now?.pause);
  swap($('pause'), $('resume'), paused);
  $('paused').hidden = !paused;
  const { since, reason } = now?.pause ?? {};
  if (paused) set($('paused'), `Every instance is paused${since ? `, for ${duration(secondsSince(since))}` : ''}: ${reason}. What runs goes on.`);
  else if (now && !['running', 'stopping'].includes(now.state)) {
    $('paused').hidden = false;
    set($('paused'), `This instance takes no jobs: ${now.state}`);
  }
  showTrouble();
}

/** Shows the second in place of the first, and moves the focus along. */
function swap(first, second, swapped) {
  const [shown, other] = swapped ? [second, first] : [first, second];
  const focused = document.activeElement === other;
  shown.hidden = false;
  other.hidden = true;
  if (focused) shown.focus();
}

function showTrouble() {
  const { connection, trouble, now, lostAt } = model;
  const seen = now ? ` What is shown is of ${new Date(now.at).toLocaleTimeString()}.` : '';
  const words = connection === 'lost' ? `Connection lost at ${lostAt.toLocaleTimeString()}; trying again.${seen}` : trouble ? `${trouble}.${seen}` : '';
  $('trouble').hidden = words === '';
  set($('trouble'), words);
}

export function show() {
  const { now, lists } = model;
  showState();
  showSpeed();
  if (!now) return;
  showQueue(now);
  showRunning(now);
  showFailures(lists);
  showDead(lists);
  showInstances(now);
  showCounts(now);
  set($('list'), now.list);
  set($('version'), `hauld ${model.version}`);
  set($('as-of'), `as of ${new Date(now.at).toLocaleTimeString()}`);
}
