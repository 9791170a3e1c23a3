// Asking the daemon to do something, with the token. Tells the page by an event when there is another token.

import { $, set } from './words.js';

const STORED_TOKEN = 'hauld-token';

export function token() {
  return sessionStorage.getItem(STORED_TOKEN);
}

/** Keeps it as long as the tab is open; null forgets it. */
export function keepToken(given) {
  if (given === null) sessionStorage.removeItem(STORED_TOKEN);
  else sessionStorage.setItem(STORED_TOKEN, given);
  document.dispatchEvent(new Event('token'));
}

async function ask(path, body, shownToken) {
  let response;
  try {
    response = await fetch(`api/${path}`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json', Authorization: `Bearer ${shownToken}` },
      body: JSON.stringify(body),
    });
  } catch {
    return { ok: false, status: 0, detail: 'The daemon was not reached; nothing is known to have been done.' };
  }
  const answer = await response.json().catch(() => ({}));
  return { ok: response.ok, status: response.status, detail: answer.detail ?? `The daemon answered ${response.status}.`, ...answer };
}

function say(words, good) {
  const said = $('said');
  said.className = `bar ${good ? 'good' : 'bad'}`;
  said.hidden = false;
  set($('said-words'), words);
  set($('announcer'), words);
}

/** Opens a dialog; gives what `submit` gives, or null when it was closed without. */
function open(dialog, submit) {
  return new Promise((resolve) => {
    let result = null;
    const form = dialog.querySelector('form');
    form.onsubmit = async (event) => {
      event.preventDefault();
      result = await submit();
      if (result !== null) dialog.close();
    };
    dialog.querySelector('[data-close]').onclick = () => dialog.close();
    dialog.onclose = () => resolve(result);
    dialog.showModal();
  });
}

export function askForToken(wrong = '') {
  const input = $('token-input');
  input.value = '';
  set($('token-wrong'), wrong);
  return open($('token-dialog'), async () => {
    const given = input.value.trim();
    const { ok, detail } = await ask('token', {}, given);
    if (ok) {
      keepToken(given);
      return given;
    }
    set($('token-wrong'), detail);
    input.select();
    return null;
  });
}

/** Gives the reason, which may be empty, or null when it is not to be done. */
function confirm({ title, text, yes, danger = false, reason = false }) {
  set($('confirm-title'), title);
  set($('confirm-text'), text);
  set($('confirm-yes'), yes);
  $('confirm-yes').classList.toggle('danger', danger);
  $('confirm-reason').hidden = !reason;
  $('reason-input').value = '';
  return open($('confirm-dialog'), async () => $('reason-input').value.trim());
}

/** Does it, once there is a token and, where `question` is given, a yes. */
export async function act(path, body, question = null) {
  if (token() === null && (await askForToken()) === null) return;
  let request = body;
  if (question) {
    const reason = await confirm(question);
    if (reason === null) return;
    if (question.reason) request = { ...body, reason };
  }
  const answer = await ask(path, request, token());
  if (answer.status === 401) {
    keepToken(null);
    await askForToken('The token is not accepted any more.');
    return;
  }
  say(answer.ok ? [answer.said, ...(answer.remarks ?? [])].join('\n') : answer.detail, answer.ok);
}
