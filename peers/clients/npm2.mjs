// The npm SDK 2.x as a client of a gateway: node npm2.mjs URL TOKEN TOOL ARGUMENTS

import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import { listAndCall } from './told.mjs';

await listAndCall(Client, StreamableHTTPClientTransport);
