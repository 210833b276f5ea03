// npm `@modelcontextprotocol/server-everything` over streamable HTTP, without auth, as it is.
// It listens where PORT says and tells nobody which port 0 became; so its one `listen` is answered here
// with 127.0.0.1 and the port is printed: `READY http://127.0.0.1:<port>/mcp`.

import { Server } from 'node:http';

const { listen } = Server.prototype;
Server.prototype.listen = function listenOnLoopback(_, ...rest) {
  this.once('listening', () => console.log(`READY http://127.0.0.1:${this.address().port}/mcp`));
  return listen.call(this, Number(process.env.PORT ?? 0), '127.0.0.1', ...rest);
};

// Its own account of every request goes to stderr, so that stdout holds the one line.
console.log = ((print) => (line) => (String(line).startsWith('READY ') ? print(line) : console.error(line)))(console.log);
process.argv[2] = 'streamableHttp';
await import('@modelcontextprotocol/server-everything/dist/index.js');
