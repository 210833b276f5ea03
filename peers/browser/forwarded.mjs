// Ana begins to connect again and forwards the provider's link; Ben, signed in with a browser of his own, goes on.
// INPUT: base, issuer, server, ana and ben {invitation, password}. Prints what each of them saw.

import { consent, drive } from './browser.mjs';
import { INPUT, at, connect, join, row } from './people.mjs';

const seen = {};

await drive(async (browser) => {
  const { server } = INPUT;
  const ana = await join(browser, INPUT.ana);
  await connect(ana, server, 'ada');
  // The provider's link is what the hand-off page leads to; it is taken there and never opened by her.
  await ana.goto(at(`/me/mcp-servers/${server}/connect`));
  const opened = new Promise((taken) => {
    ana.route(`${INPUT.issuer}/**`, (route) => {
      taken(route.request().url());
      return route.abort();
    });
  });
  await ana.getByRole('button', { name: 'Reconnect' }).click();
  const link = await opened;

  const ben = await join(browser, INPUT.ben);
  await ben.goto(link);
  await consent(ben, { name: 'grace' });
  seen.benPage = await ben.locator('main').innerText();
  await ben.goto(at('/me/mcp-servers'));
  seen.benRow = await row(ben, server);

  await ana.unroute(`${INPUT.issuer}/**`);
  await ana.goto(at('/me/mcp-servers'));
  seen.anaRow = await row(ana, server);
  console.log(JSON.stringify(seen));
});
