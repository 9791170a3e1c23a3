// The operator page: listens to what the daemon sends (see events.rs) and has it shown; its buttons ask for actions.

import { act, askForToken, keepToken, token } from './actions.js';
import { model, show, showState } from './show.js';
import { $, count, setServerTime, task } from './words.js';

/** After so much silence a connection that looks open is given up: the daemon sends something every second. */
const SILENCE = 12_000;
const RECONNECT = 2_000;

let source = null;
let heard = Date.now();
let again = null;

function lost() {
  if (model.connection !== 'lost') model.lostAt = new Date();
  model.connection = 'lost';
  showState();
}

function reconnect(after) {
  source?.close();
  clearTimeout(again);
  again = setTimeout(connect, after);
}

function connect() {
  heard = Date.now();
  source = new EventSource('api/events');
  const on = (name, take) => source.addEventListener(name, (event) => {
    heard = Date.now();
    take(JSON.parse(event.data));
  });
  on('hello', (hello) => {
    // Another version of the daemon has another page.
    if (model.version !== null && model.version !== hello.version) return window.location.reload();
    model.version = hello.version;
    model.mayAct = hello.may_act;
    model.samples = [];
    model.connection = 'open';
    showState();
  });
  on('now', (now) => {
    model.now = now;
    model.trouble = null;
    setServerTime(now.at);
    show();
  });
  on('lists', (lists) => { model.lists = lists; });
  on('speed', (samples) => { model.samples.push(...samples); });
  on('trouble', ({ message }) => {
    model.trouble = message;
    showState();
  });
  source.onerror = () => {
    lost();
    // A browser tries again by itself, but not after an answer that was no stream.
    if (source.readyState === EventSource.CLOSED) reconnect(RECONNECT);
  };
}

setInterval(() => {
  if (source.readyState !== EventSource.CLOSED && Date.now() - heard > SILENCE) {
    lost();
    reconnect(0);
  }
}, 1000);

function pause(instance) {
  const whom = instance ?? 'every instance';
  act('pause', { instance }, {
    title: `Pause ${whom}?`,
    text: 'Nothing more is started; what runs goes on to its end.',
    yes: 'Pause',
    reason: true,
  });
}

function clicked(parent, name, take) {
  $(parent).addEventListener('click', (event) => {
    const button = event.target.closest(`[data-field="${name}"]`);
    if (button) take(button.closest('[data-key]').item);
  });
}

$('said-close').addEventListener('click', () => {
  $('said').hidden = true;
  $('content').focus({ preventScroll: true });
});
$('pause').addEventListener('click', () => pause(null));
$('resume').addEventListener('click', () => act('resume', { instance: null }));
$('token').addEventListener('click', () => {
  if (token() === null) askForToken();
  else keepToken(null);
});
document.addEventListener('token', showState);
clicked('instances', 'pause', (one) => (one.pause ? act('resume', { instance: one.name }) : pause(one.name)));
clicked('failures', 'retry', (one) => act('dead/retry', { kind: one.kind }, {
  title: `Retry all that failed with ${one.kind}?`,
  text: `${one.remedy ?? ''} They go to the end of the queue, with all attempts before them.`.trim(),
  yes: 'Retry',
}));
clicked('dead', 'retry', (one) => act('dead/retry', { ids: [one.id] }));
clicked('dead', 'purge', (one) => act('dead/purge', { ids: [one.id] }, {
  title: `Throw away ${task(one.task_id).toLowerCase()}?`,
  text: 'The entry is gone for good, with its history. The status of the task stays as it is.',
  yes: 'Purge',
  danger: true,
}));
$('retry-all').addEventListener('click', () => act('dead/retry', { all: true }, {
  title: `Retry ${count(model.now.depths.dead, 'entry', 'entries')}?`,
  text: 'The whole dead list goes to the end of the queue, with all attempts before it.',
  yes: 'Retry all',
}));
$('purge-all').addEventListener('click', () => act('dead/purge', { all: true }, {
  title: `Throw away ${count(model.now.depths.dead, 'entry', 'entries')}?`,
  text: 'The whole dead list is gone for good. The status of the tasks stays as it is.',
  yes: 'Purge all',
  danger: true,
}));

connect();
