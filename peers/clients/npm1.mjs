// The npm SDK 1.x as a client of a gateway: node npm1.mjs URL TOKEN TOOL ARGUMENTS

import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { listAndCall } from './told.mjs';

await listAndCall(Client, StreamableHTTPClientTransport);
