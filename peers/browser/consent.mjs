// The per-user flow as two people have it: connect at a foreign provider, use, renew, disconnect.
// INPUT: base, issuer, server, space, ana and ben {invitation, password}, later: a POST there lets half a minute pass.
// Prints what was seen.

import assert from 'node:assert/strict';
import { drive } from './browser.mjs';
import { INPUT, at, begin, connect, join, problems, row, turn, write } from './people.mjs';

const SEARCH = '/tool notes__search {"query": "invoice"}';
const seen = {};

// Long enough for a short-lived token to be renewed with its next use.
async function halfAMinuteLater() {
  const passed = await fetch(INPUT.later, { method: 'POST' });
  assert.equal(passed.status, 200);
}

await drive(async (browser) => {
  const { server, space } = INPUT;
  const ana = await join(browser, INPUT.ana);
  await ana.goto(at('/me/mcp-servers'));
  seen.before = await row(ana, server);
  await connect(ana, server, 'ada');
  seen.notice = await ana.locator('.notice').innerText();
  seen.after = await row(ana, server);

  // The first use; from here on another window of hers watches, and is never loaded again.
  await halfAMinuteLater();
  await begin(ana, space, SEARCH);
  const first = await turn(ana, 1);
  seen.attribution = await first.locator('.attribution').innerText();
  seen.first = await ana.locator('.message-data').last().innerText();
  const thread = ana.url();
  const watch = await ana.context().newPage();
  await watch.goto(thread);
  await watch.locator('[data-live][data-state="live"]').waitFor();
  await watch.evaluate(() => { window.notReloaded = true; });
  await halfAMinuteLater();
  await write(ana, '/tool notes__add {"text": "Book the hall"}');
  await turn(watch, 2);
  await halfAMinuteLater();
  await write(ana, '/tool notes__search {"query": "hall"}');
  await turn(watch, 3);
  await watch.getByText('Book the hall').last().waitFor();
  seen.live = await watch.evaluate(() => window.notReloaded === true);

  // The second member, in the very same thread: no tool, a link of their own, and nothing of hers.
  const ben = await join(browser, INPUT.ben);
  await ben.goto(thread);
  seen.previewsForBen = await ben.locator('.preview').count();
  await write(ben, SEARCH);
  const his = await turn(ben, 4);
  seen.benTurn = await his.innerText();
  seen.benLink = await his.locator('.left-out a').getAttribute('href');
  await ben.goto(at('/me/mcp-servers'));
  seen.benRow = await row(ben, server);

  await ana.goto(at('/me/connections'));
  await ana.getByRole('link', { name: 'Disconnect' }).click();
  await ana.getByRole('button', { name: 'Disconnect' }).click();
  seen.disconnected = await ana.locator('.notice').innerText();
  await ana.goto(thread);
  await write(ana, SEARCH);
  seen.afterwards = await (await turn(ana, 5)).innerText();
  assert.deepEqual(problems(ana, ben), []);
  console.log(JSON.stringify(seen));
});
