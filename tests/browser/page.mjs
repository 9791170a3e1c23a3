// The operator page in a real browser. The test that starts this changes the world when it is asked to, a word a
// line, and answers with a line of JSON.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { chromium } from 'playwright-core';

const { PAGE_URL: url, PAGE_TOKEN: token, PAGE_PICTURES: pictures } = process.env;
const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const input = createInterface({ input: process.stdin });
const answers = input[Symbol.asyncIterator]();

/** Lets the test do something, and waits until it is done. */
async function world(step) {
  console.log(step);
  const { value } = await answers.next();
  return JSON.parse(value);
}

const browser = await chromium.launch({
  executablePath: '/usr/bin/chromium',
  args: [
    '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync', '--host-resolver-rules=MAP rebound.example 127.0.0.1',
  ],
});
const context = await browser.newContext({ viewport: { width: 1280, height: 900 } });
context.setDefaultTimeout(30_000);
const page = await context.newPage();

const outside = [];
const complaints = [];
page.on('request', (request) => { if (!request.url().startsWith(url)) outside.push(request.url()); });
page.on('pageerror', (error) => complaints.push(String(error)));
page.on('console', (message) => { if (/Content Security Policy|Trusted/i.test(message.text())) complaints.push(message.text()); });
await page.addInitScript(() => {
  window.violations = [];
  document.addEventListener('securitypolicyviolation', (event) => window.violations.push(`${event.violatedDirective} ${event.blockedURI}`));
  // What a title with a script in it would do.
  window.hacked = false;
});

const state = page.locator('#state');
const is = (locator, text) => locator.filter({ hasText: text }).first().waitFor();
const picture = (name) => page.screenshot({ path: `${pictures}/${name}.png`, fullPage: true });

async function accessible(where, part = 'body') {
  await page.evaluate(axe);
  const { violations } = await page.evaluate((context) => window.axe.run(context), part);
  const shown = violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => `${node.target} ${node.failureSummary}`).join(' | ')}`);
  assert.deepEqual(shown, [], where);
}

async function fits(where) {
  const { content, window: width } = await page.evaluate(() => ({ content: document.documentElement.scrollWidth, window: window.innerWidth }));
  assert.ok(content <= width, `${where}: ${content} px of content in ${width} px`);
}

/** Presses Tab until the focus is on the button of this name. */
async function tabTo(name) {
  for (let presses = 0; presses < 40; presses += 1) {
    await page.keyboard.press('Tab');
    const focused = await page.evaluate(() => {
      const one = document.activeElement;
      return { name: one?.getAttribute('aria-label') ?? one?.textContent, outline: one && getComputedStyle(one).outlineStyle };
    });
    if (focused.name === name) {
      assert.notEqual(focused.outline, 'none', 'the focus is seen');
      return;
    }
  }
  assert.fail(`no way to ${name} by Tab`);
}

// Nothing there yet.
const response = await page.goto(url);
const policy = response.headers()['content-security-policy'];
assert.match(policy, /default-src 'none'/);
assert.doesNotMatch(policy, /unsafe/);
await is(state, 'Running');
await is(page.locator('#running-none'), 'Nothing runs');
await picture('desktop-light-empty');

// A download that is held half way; its title would like to be markup.
const { title } = await world('download');
const task = page.getByRole('listitem').filter({ hasText: 'Task 43' });
await task.waitFor();
await is(task.locator('[data-field=course]'), title);
assert.equal(await task.locator('[data-field=course]').textContent(), title, 'a title stays text');
await is(task, 'Lecture 1 of 2: 001');
const whole = page.getByRole('progressbar', { name: 'Task 43, whole course' });
const file = page.getByRole('progressbar', { name: 'Task 43, current file' });
const value = (bar) => bar.evaluate((node) => node.value);
const grows = (bar, before) => page.waitForFunction(([name, least]) => document.querySelector(`progress[aria-label="${name}"]`)?.value > least, [bar, before]);
await grows('Task 43, whole course', 0);
const [wholeBefore, fileBefore] = [await value(whole), await value(file)];
assert.ok(wholeBefore < 50 && fileBefore > wholeBefore, `${wholeBefore} of the course, ${fileBefore} of the file`);
await world('more');
await grows('Task 43, whole course', wholeBefore);
await is(task, 'Lecture 2 of 2: 002');

// What has failed, and what to do about it.
await world('fail');
const dead = page.getByRole('table', { name: /^Dead list/ });
await is(dead, 'Task 51');
await is(dead, 'Task 52');
await is(page.locator('#failures'), 'Open the course URL');
for (const name of ['Task', 'Failure', 'Attempts', 'Given up', 'Actions']) {
  await dead.getByRole('columnheader', { name, exact: true }).waitFor({ state: 'attached' });
}
for (const name of ['Queue', 'Running', 'Recent failures', 'Instances']) {
  await page.getByRole('region', { name }).or(page.getByRole('heading', { name })).first().waitFor();
}
assert.equal(await page.locator('main img, main script, .course b').count(), 0, 'no markup has come out of a text');
await accessible('desktop, light');
await fits('desktop');
await picture('desktop-light-busy');
await page.emulateMedia({ colorScheme: 'dark' });
await picture('desktop-dark-busy');
await page.setViewportSize({ width: 375, height: 812 });
await fits('phone');
await accessible('phone, dark');
await picture('phone-dark-busy');
await page.emulateMedia({ colorScheme: 'light' });
await picture('phone-light-busy');
await page.setViewportSize({ width: 1280, height: 900 });

// By keyboard alone: a wrong token, the right one, a pause with its reason, and its end.
await tabTo('Pause all');
await page.keyboard.press('Enter');
const wrong = page.locator('#token-wrong');
await page.getByRole('textbox', { name: 'Token' }).waitFor();
await page.keyboard.type('guess');
await page.keyboard.press('Enter');
await is(wrong, 'This is not the token');
await accessible('the question for the token', '#token-dialog');
await picture('desktop-light-token');
await page.keyboard.type(token);
await page.keyboard.press('Enter');
const confirmation = page.getByRole('dialog', { name: 'Pause every instance?' });
await confirmation.waitFor();
await page.getByLabel('Reason').focus();
await page.keyboard.type('disk is <b>full</b>');
await page.keyboard.press('Enter');
await is(state, 'Paused');
await is(page.locator('#paused'), 'disk is <b>full</b>');
assert.deepEqual((await world('pauses')).map((pause) => JSON.parse(pause).reason), ['disk is <b>full</b>']);
await picture('desktop-light-paused');
await tabTo('Resume all');
await page.keyboard.press('Enter');
await is(state, 'Running');
assert.deepEqual(await world('pauses'), []);

// One instance.
const instances = page.getByRole('table', { name: 'Instances' });
await instances.getByRole('button', { name: /^Pause / }).click();
await page.getByRole('button', { name: 'Pause', exact: true }).click();
await is(instances, 'paused: by an operator');
await instances.getByRole('button', { name: /^Resume / }).click();
await is(instances, 'takes jobs');

// The dead list: one is tried again, the other goes.
await world('publish');
await dead.getByRole('button', { name: 'Retry task 51' }).click();
await is(page.getByRole('status'), '1 of 1 back in the queue');
await dead.getByText('Task 51').waitFor({ state: 'detached' });
await dead.getByRole('button', { name: 'Purge task 52' }).click();
await page.getByRole('dialog', { name: 'Throw away task 52?' }).getByRole('button', { name: 'Cancel' }).click();
assert.equal(await dead.getByText('Task 52').count(), 1, 'not without a yes');
await dead.getByRole('button', { name: 'Purge task 52' }).click();
await page.getByRole('dialog').getByRole('button', { name: 'Purge' }).click();
await page.locator('#dead-none').waitFor();
await world('completed');

// Another site, whose page this browser has open, can do nothing and learns nothing: not even with a form's kind of
// request.
const stranger = await context.newPage();
await stranger.goto((await world('stranger')).url);
const asked = (target) => fetch(target, { method: 'POST', mode: 'no-cors', body: '{}' }).then(() => 'an answer', () => 'nothing');
assert.equal(await stranger.evaluate(asked, `${url}api/pause`), 'nothing');
// Nor by a name that it makes lead here.
const rebound = await stranger.goto(url.replace('127.0.0.1', 'rebound.example'));
assert.equal(rebound.status(), 403);
await stranger.close();
assert.deepEqual(await world('pauses'), []);

// The connection is lost, which is seen, and comes back by itself.
await world('cut');
await is(state, 'Connection lost');
await is(page.getByRole('alert'), 'Connection lost');
await picture('desktop-light-lost');
await world('heal');
await is(state, 'Running');
await page.locator('#trouble').waitFor({ state: 'hidden' });

assert.deepEqual(await page.evaluate(() => window.violations), []);
assert.equal(await page.evaluate(() => window.hacked), false);
assert.deepEqual(complaints, []);
assert.deepEqual(outside, [], 'nothing from elsewhere');
// With the page still open.
await world('stop');
await browser.close();
input.close();
