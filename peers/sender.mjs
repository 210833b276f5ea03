// A sender of signed webhooks: npm `standardwebhooks`, the reference library of Standard Webhooks.
//   node sender.mjs URL SECRET [BODY]      SECRET begins with whsec_; BODY is JSON text, {} without it
// Environment: MESSAGE_ID (msg_… at random), TIMESTAMP (seconds since 1970, now), TAMPER ("yes" changes the body
// after signing). Prints one JSON line: {"status", "id", "body"}. Exits 0 whatever the status is.

import { randomUUID } from 'node:crypto';
import { Webhook } from 'standardwebhooks';

const [url, secret, body = '{}'] = process.argv.slice(2);
const id = process.env.MESSAGE_ID ?? `msg_${randomUUID()}`;
const seconds = Number(process.env.TIMESTAMP ?? Math.floor(Date.now() / 1000));

const answer = await fetch(url, {
  method: 'POST',
  redirect: 'manual',
  headers: {
    'content-type': 'application/json',
    'webhook-id': id,
    'webhook-timestamp': String(seconds),
    'webhook-signature': new Webhook(secret).sign(id, new Date(seconds * 1000), body),
  },
  body: process.env.TAMPER === 'yes' ? `${body} ` : body,
});
console.log(JSON.stringify({ status: answer.status, id, body: await answer.text() }));
