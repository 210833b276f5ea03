// The authorization server of the tests: npm `oidc-provider`, configured as a strict provider of
// today. Dynamic registration (RFC 7591), PKCE S256 for every client, `iss` in the answer
// (RFC 9207), resource indicators (RFC 8707) with JWT access tokens (RFC 9068), rotating refresh
// tokens and revocation (RFC 7009).
//
// The sign-in and consent pages are the provider's own; whoever types the name `ada` becomes `sub` "ada".
// `READY <issuer>` is the first line on stdout; after it, one `EVENT {"event": …}` line per fact that a test
// may want to know from the provider's side, without any token in it.
//
// Environment: PORT (0 picks one), ACCESS_TOKEN_TTL (seconds, 3600), REFRESH_TOKEN_TTL (seconds, 86400),
// ROTATE ("no" keeps refresh tokens), REGISTRATION ("no" refuses dynamic registration; then CLIENTS holds
// a JSON array of client metadata with `client_id`).

import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { createServer } from 'node:http';
import Provider, { errors } from 'oidc-provider';

const { env } = process;
const seconds = (name, otherwise) => Number(env[name] ?? otherwise);
const enabled = (name) => env[name] !== 'no';

const SCOPES_OF_RESOURCES = 'notes:read notes:write';
const LISTENED_FOR = [
  'access_token.issued', 'authorization.error', 'authorization.success', 'grant.error', 'grant.revoked',
  'grant.success', 'refresh_token.consumed', 'refresh_token.destroyed', 'registration_create.error',
  'registration_create.success', 'revocation.error',
];

// The issuer holds the port, so the port comes first and the provider second.
const server = createServer();
server.listen(seconds('PORT', 0), '127.0.0.1', () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const provider = new Provider(issuer, configuration());
  for (const event of LISTENED_FOR) provider.on(event, (...details) => tell(event, details));
  provider.on('server_error', (_, error) => console.error(error));
  server.on('request', provider.callback());
  console.log(`READY ${issuer}`);
});

function configuration() {
  return {
    clients: JSON.parse(env.CLIENTS ?? '[]'),
    clientDefaults: { grant_types: ['authorization_code', 'refresh_token'] },
    cookies: { keys: [randomBytes(32).toString('hex')] },
    jwks: { keys: [signingKey()] },
    features: {
      devInteractions: { enabled: true },
      registration: { enabled: enabled('REGISTRATION') },
      resourceIndicators: { enabled: true, getResourceServerInfo: resource },
      revocation: { enabled: true },
    },
    issueRefreshToken: (_, client) => client.grantTypeAllowed('refresh_token'),
    pkce: { required: () => true },
    rotateRefreshToken: enabled('ROTATE'),
    scopes: ['openid', 'offline_access'],
    ttl: {
      AccessToken: seconds('ACCESS_TOKEN_TTL', 3600),
      Grant: 86_400,
      IdToken: 3600,
      Interaction: 600,
      RefreshToken: seconds('REFRESH_TOKEN_TTL', 86_400),
      Session: 86_400,
    },
  };
}

function signingKey() {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  return { ...privateKey.export({ format: 'jwk' }), alg: 'RS256', use: 'sig', kid: 'test' };
}

// Any resource on this machine may be asked for; the token's audience is exactly what was asked.
function resource(_, indicator) {
  if (new URL(indicator).hostname !== '127.0.0.1') throw new errors.InvalidTarget();
  return {
    scope: SCOPES_OF_RESOURCES,
    audience: indicator,
    accessTokenFormat: 'jwt',
    accessTokenTTL: seconds('ACCESS_TOKEN_TTL', 3600),
    jwt: { sign: { alg: 'RS256' } },
  };
}

function tell(event, details) {
  const context = details.find((detail) => detail?.oidc)?.oidc;
  const model = details.find((detail) => detail?.kind || detail?.accountId);
  const error = details.find((detail) => detail instanceof Error);
  console.log(`EVENT ${JSON.stringify({
    event,
    client_id: context?.client?.clientId ?? model?.clientId,
    grant_type: context?.params?.grant_type,
    resource: context?.params?.resource,
    sub: model?.accountId ?? context?.account?.accountId,
    error: error?.error,
    error_detail: error?.error_detail ?? error?.error_description,
  })}`);
}
