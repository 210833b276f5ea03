-- Everything a fresh database has, for PostgreSQL. The same for SQLite is in ../sqlite; a test compares the two.
--
-- Ids are UUIDv7, times microseconds since 1970 (UTC).
--
-- A tenant's table begins with `id` and `tenant_id` and has (tenant_id, id) as its primary key and, at the end of
-- this file, a policy.
-- Foreign keys between such tables carry the tenant, so that no row can name another tenant's. There is none where the
-- other row may be of several tables (`…_kind`, `…_id`), may come later or may be gone.
--
-- The role that runs this owns everything. Requests are served by a role that owns nothing and has the rights of
-- `thinkwork_app`, which is there before the migrations run.

-- For the triggers of append-only tables.
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION '% is append-only', TG_TABLE_NAME; END $$;

CREATE TABLE tenant (
  id UUID NOT NULL,
  slug TEXT NOT NULL,
  name TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  PRIMARY KEY (id)
);
CREATE UNIQUE INDEX tenant_unique_slug ON tenant (slug);

-- The tables of this crate ------------------------------------------------------------------------

-- Where a hashed key leads, for look-ups before the tenant is known: session, token, webhook, callback. Digests and ids
-- only.
CREATE TABLE route (
  kind TEXT NOT NULL,
  key_hash BYTEA NOT NULL,
  tenant_id UUID NOT NULL REFERENCES tenant (id),
  row_id UUID NOT NULL,
  PRIMARY KEY (kind, key_hash, row_id)
);
CREATE INDEX route_by_row ON route (kind, row_id);

-- Work that a transaction decided on and a worker does later.
CREATE TABLE job (
  id UUID NOT NULL,
  tenant_id UUID NOT NULL REFERENCES tenant (id),
  kind TEXT NOT NULL,
  key TEXT NOT NULL,
  run_at BIGINT NOT NULL,
  attempts BIGINT NOT NULL,
  -- Which loop of a worker takes it: people, senders or background.
  lane TEXT NOT NULL,
  -- In whose turn it is claimed: who asks for a turn; nobody in the background.
  fairness_key TEXT NOT NULL,
  -- Counts up when the job is asked for again while it runs.
  generation BIGINT NOT NULL,
  lease UUID,
  lease_until BIGINT,
  parked_at BIGINT,
  last_error TEXT,
  PRIMARY KEY (id)
);
CREATE UNIQUE INDEX job_unique_key ON job (tenant_id, kind, key);
CREATE INDEX job_by_run_at ON job (run_at) WHERE parked_at IS NULL AND lane = 'background';
CREATE INDEX job_by_fairness_key ON job (lane, tenant_id, fairness_key, run_at) WHERE parked_at IS NULL AND lane <> 'background';
CREATE INDEX job_parked ON job (tenant_id) WHERE parked_at IS NOT NULL;

-- What is used up of a limit in a window of time.
CREATE TABLE quota (
  key TEXT NOT NULL,
  window_number BIGINT NOT NULL,
  used BIGINT NOT NULL,
  PRIMARY KEY (key, window_number)
);

-- Accepted inbound events. An event is found by its id only while it waits; what stays of it is its dedupe key. It has
-- no key to its tenant: storing events is what has to be fastest, and whoever stores one has just found the tenant by
-- its route.
CREATE TABLE intake_event (
  -- The order in which events were stored, whatever clocks say.
  number BIGINT PRIMARY KEY,
  id UUID NOT NULL,
  tenant_id UUID NOT NULL,
  source TEXT NOT NULL,
  dedupe_key BYTEA NOT NULL,
  order_key TEXT NOT NULL,
  -- NULL once the event is applied.
  body BYTEA,
  body_hash BYTEA NOT NULL,
  received_at BIGINT NOT NULL,
  attempts BIGINT NOT NULL,
  lease_until BIGINT,
  parked_at BIGINT,
  last_error TEXT,
  UNIQUE (tenant_id, source, dedupe_key)
);
CREATE UNIQUE INDEX intake_event_unique_waiting ON intake_event (id) WHERE body IS NOT NULL;
-- What waits of each source, in its order; whose turn it is to be claimed is found by seeking in it.
CREATE INDEX intake_event_by_source ON intake_event (tenant_id, source, number) WHERE body IS NOT NULL;
-- What precedes an event in its order.
CREATE INDEX intake_event_by_order ON intake_event (order_key, tenant_id, source, number)
  WHERE body IS NOT NULL AND order_key <> '';
CREATE INDEX intake_event_parked ON intake_event (tenant_id) WHERE parked_at IS NOT NULL;
-- Which dedupe keys are old enough to be forgotten.
CREATE INDEX intake_event_applied_by_age ON intake_event (tenant_id, source, received_at) WHERE body IS NULL;
-- Where the numbers of one statement begin, which stores at most 512 events.
CREATE SEQUENCE intake_event_number INCREMENT 512;

-- The words by which something is found, and among them the marks `_l…` of what it is filtered by. The group says who may
-- find it. The code splits text into words, so no dictionary is asked.
CREATE TABLE text_search (
  id UUID NOT NULL,
  tenant_id UUID NOT NULL REFERENCES tenant (id),
  group_id UUID NOT NULL,
  words TSVECTOR NOT NULL,
  PRIMARY KEY (tenant_id, id)
);
CREATE INDEX text_search_by_words ON text_search USING gin (words);

-- People ----------------------------------------------------------------------------------------

-- People are disabled, never deleted.
CREATE TABLE user_account (
  id UUID NOT NULL,
  tenant_id UUID NOT NULL REFERENCES tenant (id),
  email TEXT NOT NULL,
  email_key TEXT NOT NULL,
  name TEXT NOT NULL,
  role TEXT NOT NULL,
  password_hash TEXT,
  disabled_at BIGINT,
  created_at BIGINT NOT NULL,
  version BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, id)
);
CREATE UNIQUE INDEX user_account_unique_email ON user_account (tenant_id, email_key);

CREATE TABLE session (
  id UUID NOT NULL,
  tenant_id UUID NOT NULL REFERENCES tenant (id),
  user_id UUID NOT NULL,
  token_hash BYTEA NOT NULL,
  created_at BIGINT NOT NULL,
  signed_in_at BIGINT NOT NULL,
  last_seen_at BIGINT NOT NULL,
  expires_at BIGINT NOT NULL,
  revoked_at BIGINT,
  user_agent TEXT NOT NULL,
  PRIMARY KEY (tenant_id, id),
  FOREIGN KEY (tenant_id, user_id) REFERENCES user_account (tenant_id, id)
);
CREATE INDEX session_by_user ON session (tenant_id, user_id, id);

-- Bearer tokens. A service token belongs to no person.
CREATE TABLE token (
  id UUID NOT NULL,
  tenant_id UUID NOT NULL REFERENCES tenant (id),
  name TEXT NOT NULL,
  kind TEXT NOT NULL,
  audience TEXT NOT NULL,
  scope TEXT NOT NULL,
  user_id UUID,
  token_hash BYTEA NOT NULL,
  last_four TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  expires_at BIGINT,
  revoked_at BIGINT,
  last_used_at BIGINT,
  created_by TEXT NOT NULL,
  PRIMARY KEY (tenant_id, id),
  FOREIGN KEY (tenant_id, user_id) REFERENCES user_account (tenant_id, id)
);
CREATE INDEX token_by_user ON token (tenant_id, user_id, id) WHERE user_id IS NOT NULL;
CREATE INDEX token_revoked ON token (tenant_id, revoked_at, id) WHERE revoked_at IS NOT NULL;
CREATE INDEX token_expiring ON token (tenant_id, expires_at, id) WHERE revoked_at IS NULL;

-- A code that sets the password of its user, once: purpose `invitation` for people, `setup` for the owner.
CREATE TABLE invitation (
  id UUID NOT NULL,
  tenant_id UUID NOT NULL REFERENCES tenant (id),
  user_id UUID NOT NULL,
  purpose TEXT NOT NULL,
  code_hash BYTEA NOT NULL,
  created_at BIGINT NOT NULL,
  expires_at BIGINT NOT NULL,
  used_at BIGINT,
  PRIMARY KEY (tenant_id, id),
  FOREIGN KEY (tenant_id, user_id) REFERENCES user_account (tenant_id, id)
);
CREATE INDEX invitation_by_user ON invitation (tenant_id, user_id);

CREATE TABLE idempotency_key (
  id UUID NOT NULL,
  tenant_id UUID NOT NULL REFERENCES tenant (id),
  key_hash BYTEA NOT NULL,
  body_hash BYTEA NOT NULL,
  resource TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, id)
);
CREATE UNIQUE INDEX idempotency_key_unique_key ON idempotency_key (tenant_id, key_hash);
CREATE INDEX idempotency_key_by_age ON idempotency_key (tenant_id, created_at);

-- The record --------------------------------------------------------------------------------------

-- What happened. It has no keys to what it tells of: an event stands, whatever became of that.
CREATE TABLE audit_event (
  id UUID NOT NULL,
  tenant_id UUID NOT NULL REFERENCES tenant (id),
  at BIGINT NOT NULL,
  -- Compared by its bytes, so that all actions with one beginning are one range.
  action TEXT COLLATE "C" NOT NULL,
  requester_kind TEXT NOT NULL,
  requester_id TEXT NOT NULL,
  subject_kind TEXT NOT NULL,
  subject_user_id UUID,
  subject_connection_id UUID,
  client_kind TEXT NOT NULL,
  client_id TEXT,
  surface TEXT,
  target_kind TEXT,
  target_id TEXT,
  thread_id UUID,
  turn_id UUID,
  payload TEXT NOT NULL,
  -- Of tenant, id and payload, under a key that the database does not hold.
  mac BYTEA NOT NULL,
  PRIMARY KEY (tenant_id, id)
);
-- A list without an action reads the ranges of all there are, which are few: one index less at each event.
CREATE INDEX audit_event_by_action ON audit_event (tenant_id, action, at, id);
CREATE INDEX audit_event_by_requester ON audit_event (tenant_id, requester_id, action, at, id);
CREATE INDEX audit_event_by_subject ON audit_event (tenant_id, subject_user_id, action, at, id)
  WHERE subject_user_id IS NOT NULL;
CREATE INDEX audit_event_by_connection ON audit_event (tenant_id, subject_connection_id, action, at, id)
  WHERE subject_connection_id IS NOT NULL;
CREATE INDEX audit_event_by_thread ON audit_event (tenant_id, thread_id, at, id) WHERE thread_id IS NOT NULL;
CREATE TRIGGER audit_event_append_only BEFORE UPDATE OR DELETE ON audit_event
FOR EACH ROW EXECUTE FUNCTION refuse_change();

-- Events that the sealer has still to chain. Ids only, so that one look finds the tenants with work.
CREATE TABLE audit_unsealed (
  tenant_id UUID NOT NULL,
  event_id UUID NOT NULL,
  PRIMARY KEY (tenant_id, event_id),
  FOREIGN KEY (tenant_id, event_id) REFERENCES audit_event (tenant_id, id)
);

-- What was taken off that list without being chained, and since when: the event is gone, or is none that we recorded.
CREATE TABLE audit_refused (
  tenant_id UUID NOT NULL,
  event_id UUID NOT NULL,
  refused_at BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, event_id)
);

-- The chain over the events. It has no key to them: that an event is gone is what its verification finds out.
CREATE TABLE audit_seal (
  id UUID NOT NULL,
  tenant_id UUID NOT NULL REFERENCES tenant (id),
  sequence BIGINT NOT NULL,
  event_id UUID NOT NULL,
  previous_hash BYTEA NOT NULL,
  hash BYTEA NOT NULL,
  sealed_at BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, id)
);
CREATE UNIQUE INDEX audit_seal_unique_sequence ON audit_seal (tenant_id, sequence);
CREATE UNIQUE INDEX audit_seal_unique_event ON audit_seal (tenant_id, event_id);
CREATE TRIGGER audit_seal_append_only BEFORE UPDATE OR DELETE ON audit_seal
FOR EACH ROW EXECUTE FUNCTION refuse_change();

-- Signed heads of the chain.
CREATE TABLE audit_checkpoint (
  id UUID NOT NULL,
  tenant_id UUID NOT NULL REFERENCES tenant (id),
  -- 0 is the beginning, signed with the tenant.
  sequence BIGINT NOT NULL,
  -- Of the checkpoint before, so that none can be missing in between.
  previous_sequence BIGINT,
  head BYTEA NOT NULL,
  at BIGINT NOT NULL,
  signature BYTEA NOT NULL,
  PRIMARY KEY (tenant_id, id)
);
CREATE UNIQUE INDEX audit_checkpoint_unique_sequence ON audit_checkpoint (tenant_id, sequence);
CREATE TRIGGER audit_checkpoint_append_only BEFORE UPDATE OR DELETE ON audit_checkpoint
FOR EACH ROW EXECUTE FUNCTION refuse_change();

-- Credentials and connections ---------------------------------------------------------------------

-- A sealed secret of whoever `owner_kind` and `owner_id` name. Revoked ones keep their row.
CREATE TABLE credential (
  id UUID NOT NULL,
  tenant_id UUID NOT NULL REFERENCES tenant (id),
  owner_kind TEXT NOT NULL,
  owner_id TEXT NOT NULL,
  kind TEXT NOT NULL,
  version BIGINT NOT NULL,
  created_at BIGINT NOT NULL,
  rotated_at BIGINT NOT NULL,
  revoked_at BIGINT,
  last_used_at BIGINT,
  PRIMARY KEY (tenant_id, id)
);
CREATE INDEX credential_by_owner ON credential (tenant_id, owner_kind, owner_id);

-- Erased versions keep their row, for the record, without material.
CREATE TABLE credential_version (
  id UUID NOT NULL,
  tenant_id UUID NOT NULL REFERENCES tenant (id),
  credential_id UUID NOT NULL,
  version BIGINT NOT NULL,
  kek_id TEXT NOT NULL,
  wrapped_key BYTEA,
  ciphertext BYTEA,
  last_four TEXT,
  created_at BIGINT NOT NULL,
  ends_at BIGINT,
  erased_at BIGINT,
  PRIMARY KEY (tenant_id, id),
  FOREIGN KEY (tenant_id, credential_id) REFERENCES credential (tenant_id, id)
);
CREATE UNIQUE INDEX credential_version_unique_version ON credential_version (tenant_id, credential_id, version);
CREATE INDEX credential_version_by_kek ON credential_version (tenant_id, kek_id, id);
CREATE INDEX credential_version_erased ON credential_version (tenant_id, erased_at, id) WHERE erased_at IS NOT NULL;

-- Fingerprints of the keys in use, so that a wrong key file stops the start.
CREATE TABLE key_check (
  kek_id TEXT NOT NULL,
  fingerprint TEXT NOT NULL,
  PRIMARY KEY (kek_id)
);

-- A registration of us as a client at one issuer, with its own redirect URI.
CREATE TABLE oauth_client (
  id UUID NOT NULL,
  tenant_id UUID NOT NULL REFERENCES tenant (id),
  target_kind TEXT NOT NULL,
  target_id UUID NOT NULL,
  registration TEXT NOT NULL,
  issuer TEXT NOT NULL,
  callback_key TEXT NOT NULL,
  client_id TEXT NOT NULL,
  credential_id UUID,
  token_auth_method TEXT NOT NULL,
  authorization_endpoint TEXT NOT NULL,
  token_endpoint TEXT NOT NULL,
  revocation_endpoint TEXT,
  iss_required BOOLEAN NOT NULL,
  scopes TEXT NOT NULL,
  resource TEXT,
  audience TEXT NOT NULL,
  prompt TEXT,
  refused_at BIGINT,
  created_at BIGINT NOT NULL,
  replaced_at BIGINT,
  PRIMARY KEY (tenant_id, id),
  FOREIGN KEY (tenant_id, credential_id) REFERENCES credential (tenant_id, id)
);
CREATE UNIQUE INDEX oauth_client_unique_current ON oauth_client (tenant_id, target_kind, target_id)
  WHERE replaced_at IS NULL;

-- One attempt of a person to get a grant.
CREATE TABLE oauth_flow (
  id UUID NOT NULL,
  tenant_id UUID NOT NULL REFERENCES tenant (id),
  user_id UUID NOT NULL,
  oauth_client_id UUID NOT NULL,
  target_kind TEXT NOT NULL,
  target_id UUID NOT NULL,
  purpose TEXT NOT NULL,
  state_hash BYTEA NOT NULL,
  issuer TEXT NOT NULL,
  redirect_uri TEXT NOT NULL,
  resource TEXT,
  scopes TEXT NOT NULL,
  return_to TEXT NOT NULL,
  verifier_credential_id UUID NOT NULL,
  cookie_hash BYTEA NOT NULL,
  created_at BIGINT NOT NULL,
  expires_at BIGINT NOT NULL,
  consumed_at BIGINT,
  outcome TEXT,
  PRIMARY KEY (tenant_id, id),
  FOREIGN KEY (tenant_id, user_id) REFERENCES user_account (tenant_id, id),
  FOREIGN KEY (tenant_id, oauth_client_id) REFERENCES oauth_client (tenant_id, id),
  FOREIGN KEY (tenant_id, verifier_credential_id) REFERENCES credential (tenant_id, id)
);
CREATE UNIQUE INDEX oauth_flow_unique_state ON oauth_flow (tenant_id, state_hash);

-- A grant of a person for one target. Ended ones keep their row.
CREATE TABLE connection (
  id UUID NOT NULL,
  tenant_id UUID NOT NULL REFERENCES tenant (id),
  user_id UUID NOT NULL,
  target_kind TEXT NOT NULL,
  target_id UUID NOT NULL,
  oauth_client_id UUID NOT NULL,
  credential_id UUID NOT NULL,
  account TEXT NOT NULL,
  scopes TEXT NOT NULL,
  status TEXT NOT NULL,
  status_reason TEXT,
  scopes_required TEXT NOT NULL,
  access_expires_at BIGINT,
  has_refresh_token BOOLEAN NOT NULL,
  refresh_lease UUID,
  refresh_lease_until BIGINT,
  refresh_started_at BIGINT,
  refreshed_at BIGINT,
  forced_refresh_at BIGINT,
  created_at BIGINT NOT NULL,
  connected_at BIGINT NOT NULL,
  ended_at BIGINT,
  last_used_at BIGINT,
  PRIMARY KEY (tenant_id, id),
  FOREIGN KEY (tenant_id, user_id) REFERENCES user_account (tenant_id, id),
  FOREIGN KEY (tenant_id, oauth_client_id) REFERENCES oauth_client (tenant_id, id),
  FOREIGN KEY (tenant_id, credential_id) REFERENCES credential (tenant_id, id)
);
CREATE UNIQUE INDEX connection_unique_live ON connection (tenant_id, user_id, target_kind, target_id)
  WHERE ended_at IS NULL;
CREATE INDEX connection_by_target ON connection (tenant_id, target_kind, target_id);
CREATE INDEX connection_live ON connection (tenant_id, id) WHERE ended_at IS NULL;
CREATE INDEX connection_by_client ON connection (tenant_id, oauth_client_id);
CREATE INDEX connection_ended ON connection (tenant_id, ended_at, id) WHERE ended_at IS NOT NULL;

-- Spaces ------------------------------------------------------------------------------------------

CREATE TABLE space (
  id UUID NOT NULL,
  tenant_id UUID NOT NULL REFERENCES tenant (id),
  slug TEXT NOT NULL,
  name TEXT NOT NULL,
  access TEXT NOT NULL,
  prompt TEXT,
  reopen BOOLEAN NOT NULL,
  created_by TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  version BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, id)
);
CREATE UNIQUE INDEX space_unique_slug ON space (tenant_id, slug);

CREATE TABLE space_member (
  id UUID NOT NULL,
  tenant_id UUID NOT NULL REFERENCES tenant (id),
  space_id UUID NOT NULL,
  user_id UUID NOT NULL,
  added_by TEXT NOT NULL,
  joined_at BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, id),
  FOREIGN KEY (tenant_id, space_id) REFERENCES space (tenant_id, id),
  FOREIGN KEY (tenant_id, user_id) REFERENCES user_account (tenant_id, id)
);
CREATE UNIQUE INDEX space_member_unique_user ON space_member (tenant_id, space_id, user_id);
CREATE INDEX space_member_by_user ON space_member (tenant_id, user_id);

-- Operators who let themselves into a private Space; it stays when they leave.
CREATE TABLE space_announcement (
  id UUID NOT NULL,
  tenant_id UUID NOT NULL REFERENCES tenant (id),
  space_id UUID NOT NULL,
  user_id UUID NOT NULL,
  joined_at BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, id),
  FOREIGN KEY (tenant_id, space_id) REFERENCES space (tenant_id, id),
  FOREIGN KEY (tenant_id, user_id) REFERENCES user_account (tenant_id, id)
);
CREATE INDEX space_announcement_by_time ON space_announcement (tenant_id, space_id, joined_at);
CREATE TRIGGER space_announcement_append_only BEFORE UPDATE OR DELETE ON space_announcement
FOR EACH ROW EXECUTE FUNCTION refuse_change();

-- Which source of tools serves which Space, with which tools.
CREATE TABLE space_tool_source (
  id UUID NOT NULL,
  tenant_id UUID NOT NULL REFERENCES tenant (id),
  space_id UUID NOT NULL,
  source_kind TEXT NOT NULL,
  source_id UUID NOT NULL,
  tool_allowlist TEXT,
  approvals TEXT NOT NULL,
  granted_by_kind TEXT NOT NULL,
  granted_by_id TEXT NOT NULL,
  granted_at BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, id),
  FOREIGN KEY (tenant_id, space_id) REFERENCES space (tenant_id, id)
);
CREATE UNIQUE INDEX space_tool_source_unique_source
  ON space_tool_source (tenant_id, space_id, source_kind, source_id);
CREATE INDEX space_tool_source_by_source ON space_tool_source (tenant_id, source_kind, source_id);

-- Threads and turns -------------------------------------------------------------------------------

-- Here and below, work names whose it is (`requester_…`), whose credentials it may use (`subject_…`) and through which
-- client it came (`client_…`).
CREATE TABLE thread (
  id UUID NOT NULL,
  tenant_id UUID NOT NULL REFERENCES tenant (id),
  space_id UUID NOT NULL,
  channel TEXT NOT NULL,
  title TEXT NOT NULL,
  status TEXT NOT NULL,
  priority TEXT NOT NULL,
  requester_kind TEXT NOT NULL,
  requester_id TEXT NOT NULL,
  subject_kind TEXT NOT NULL,
  subject_user_id UUID,
  subject_connection_id UUID,
  client_kind TEXT NOT NULL,
  client_id TEXT,
  correlation_source TEXT,
  correlation_key TEXT,
  message_sequence BIGINT NOT NULL,
  event_sequence BIGINT NOT NULL,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL,
  version BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, id),
  FOREIGN KEY (tenant_id, space_id) REFERENCES space (tenant_id, id),
  FOREIGN KEY (tenant_id, subject_user_id) REFERENCES user_account (tenant_id, id),
  FOREIGN KEY (tenant_id, subject_connection_id) REFERENCES connection (tenant_id, id)
);
CREATE UNIQUE INDEX thread_unique_correlation ON thread (tenant_id, correlation_source, correlation_key)
  WHERE correlation_key IS NOT NULL;
-- Each of these is written whenever something happens in a thread, so there are no more than lists need: of the Spaces
-- that somebody sees, with a status, a channel or both (all values of the other one are few ranges), and of a requester.
CREATE INDEX thread_by_space ON thread (tenant_id, space_id, updated_at, id);
CREATE INDEX thread_by_status ON thread (tenant_id, space_id, channel, status, updated_at, id);
CREATE INDEX thread_by_requester ON thread (tenant_id, requester_id, space_id, status, updated_at, id);
CREATE INDEX thread_by_connection ON thread (tenant_id, subject_connection_id)
  WHERE subject_connection_id IS NOT NULL;

CREATE TABLE message (
  id UUID NOT NULL,
  tenant_id UUID NOT NULL REFERENCES tenant (id),
  thread_id UUID NOT NULL,
  sequence BIGINT NOT NULL,
  role TEXT NOT NULL,
  text TEXT NOT NULL,
  data TEXT,
  requester_kind TEXT NOT NULL,
  requester_id TEXT NOT NULL,
  subject_kind TEXT NOT NULL,
  subject_user_id UUID,
  subject_connection_id UUID,
  client_kind TEXT NOT NULL,
  client_id TEXT,
  -- The turn that wrote it.
  turn_id UUID,
  -- The event that it came with; its key in the log is forgotten before the message.
  source_event_id UUID,
  mark_private BOOLEAN NOT NULL,
  mark_untrusted BOOLEAN NOT NULL,
  -- Who alone may read it, since their credential read something in it; empty again once they share it.
  private_to_user_id UUID,
  created_at BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, id),
  FOREIGN KEY (tenant_id, thread_id) REFERENCES thread (tenant_id, id),
  FOREIGN KEY (tenant_id, subject_user_id) REFERENCES user_account (tenant_id, id),
  FOREIGN KEY (tenant_id, private_to_user_id) REFERENCES user_account (tenant_id, id),
  FOREIGN KEY (tenant_id, subject_connection_id) REFERENCES connection (tenant_id, id)
);
CREATE UNIQUE INDEX message_unique_sequence ON message (tenant_id, thread_id, sequence);
CREATE INDEX message_by_connection ON message (tenant_id, subject_connection_id)
  WHERE subject_connection_id IS NOT NULL;
CREATE UNIQUE INDEX message_unique_source_event ON message (tenant_id, source_event_id)
  WHERE source_event_id IS NOT NULL;

-- What answers one message.
CREATE TABLE turn (
  id UUID NOT NULL,
  tenant_id UUID NOT NULL REFERENCES tenant (id),
  thread_id UUID NOT NULL,
  space_id UUID NOT NULL,
  message_id UUID NOT NULL,
  -- The place of that message in the thread: turns of a thread run in this order.
  message_sequence BIGINT NOT NULL,
  status TEXT NOT NULL,
  requester_kind TEXT NOT NULL,
  requester_id TEXT NOT NULL,
  subject_kind TEXT NOT NULL,
  subject_user_id UUID,
  subject_connection_id UUID,
  client_kind TEXT NOT NULL,
  client_id TEXT,
  mark_private BOOLEAN NOT NULL,
  mark_untrusted BOOLEAN NOT NULL,
  -- Who alone may read what its steps read and wrote.
  private_to_user_id UUID,
  tools_offered TEXT,
  tools_left_out TEXT,
  failure TEXT,
  created_at BIGINT NOT NULL,
  started_at BIGINT,
  finished_at BIGINT,
  -- When its first steps were deleted, since they were older than the retention period.
  steps_deleted_at BIGINT,
  CHECK (status NOT IN ('running', 'waiting_approval') OR (started_at IS NOT NULL AND finished_at IS NULL)),
  PRIMARY KEY (tenant_id, id),
  FOREIGN KEY (tenant_id, thread_id) REFERENCES thread (tenant_id, id),
  FOREIGN KEY (tenant_id, space_id) REFERENCES space (tenant_id, id),
  FOREIGN KEY (tenant_id, private_to_user_id) REFERENCES user_account (tenant_id, id),
  FOREIGN KEY (tenant_id, message_id) REFERENCES message (tenant_id, id),
  FOREIGN KEY (tenant_id, subject_user_id) REFERENCES user_account (tenant_id, id),
  FOREIGN KEY (tenant_id, subject_connection_id) REFERENCES connection (tenant_id, id)
);
CREATE INDEX turn_by_thread ON turn (tenant_id, thread_id, id);
CREATE INDEX turn_by_message ON turn (tenant_id, message_id);
CREATE INDEX turn_steps_deleted ON turn (tenant_id, thread_id) WHERE steps_deleted_at IS NOT NULL;
CREATE INDEX turn_by_connection ON turn (tenant_id, subject_connection_id)
  WHERE subject_connection_id IS NOT NULL;
-- One turn of a thread runs, or waits for an approval, at a time.
CREATE UNIQUE INDEX turn_unique_active ON turn (tenant_id, thread_id)
  WHERE started_at IS NOT NULL AND finished_at IS NULL;
-- The queue of a thread. No other index has this order, so a query for its head can use nothing else.
CREATE INDEX turn_queue ON turn (tenant_id, thread_id, message_sequence)
  WHERE started_at IS NULL AND finished_at IS NULL;
ALTER TABLE message ADD FOREIGN KEY (tenant_id, turn_id) REFERENCES turn (tenant_id, id);

CREATE TABLE step (
  id UUID NOT NULL,
  tenant_id UUID NOT NULL REFERENCES tenant (id),
  turn_id UUID NOT NULL,
  thread_id UUID NOT NULL,
  position BIGINT NOT NULL,
  kind TEXT NOT NULL,
  name TEXT NOT NULL,
  status TEXT NOT NULL,
  effect TEXT,
  idempotent BOOLEAN NOT NULL,
  requester_kind TEXT NOT NULL,
  requester_id TEXT NOT NULL,
  subject_kind TEXT NOT NULL,
  subject_user_id UUID,
  subject_connection_id UUID,
  client_kind TEXT NOT NULL,
  client_id TEXT,
  source_kind TEXT,
  source_id UUID,
  -- The version of a credential that was opened for it. Its row may be deleted once it is erased.
  credential_id UUID,
  credential_version BIGINT,
  definition_hash TEXT,
  call_hash TEXT,
  input TEXT,
  output TEXT,
  input_preview TEXT,
  output_preview TEXT,
  failure TEXT,
  started_at BIGINT NOT NULL,
  finished_at BIGINT,
  PRIMARY KEY (tenant_id, id),
  FOREIGN KEY (tenant_id, turn_id) REFERENCES turn (tenant_id, id),
  FOREIGN KEY (tenant_id, thread_id) REFERENCES thread (tenant_id, id),
  FOREIGN KEY (tenant_id, subject_user_id) REFERENCES user_account (tenant_id, id),
  FOREIGN KEY (tenant_id, subject_connection_id) REFERENCES connection (tenant_id, id)
);
CREATE UNIQUE INDEX step_unique_position ON step (tenant_id, turn_id, position);
CREATE INDEX step_by_subject ON step (tenant_id, subject_user_id, id) WHERE subject_user_id IS NOT NULL;
-- The steps that opened a credential, for the line of their thread.
CREATE INDEX step_opened_by_thread ON step (tenant_id, thread_id) WHERE subject_kind <> 'none';
CREATE INDEX step_by_connection ON step (tenant_id, subject_connection_id) WHERE subject_connection_id IS NOT NULL;

-- What the stream of a thread tells; `ref_id` is the changed thread, message, turn or step, as `kind` says.
CREATE TABLE thread_event (
  id UUID NOT NULL,
  tenant_id UUID NOT NULL REFERENCES tenant (id),
  thread_id UUID NOT NULL,
  sequence BIGINT NOT NULL,
  kind TEXT NOT NULL,
  ref_id UUID NOT NULL,
  at BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, id),
  FOREIGN KEY (tenant_id, thread_id) REFERENCES thread (tenant_id, id)
);
CREATE UNIQUE INDEX thread_event_unique_sequence ON thread_event (tenant_id, thread_id, sequence);

-- The tenant's platform agent.
CREATE TABLE agent (
  id UUID NOT NULL,
  tenant_id UUID NOT NULL REFERENCES tenant (id),
  model_base_url TEXT,
  model TEXT,
  instructions TEXT NOT NULL,
  credential_id UUID,
  updated_at BIGINT NOT NULL,
  version BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, id),
  FOREIGN KEY (tenant_id, credential_id) REFERENCES credential (tenant_id, id)
);
CREATE UNIQUE INDEX agent_unique_tenant ON agent (tenant_id);

-- Webhooks ----------------------------------------------------------------------------------------

-- Deleted ones keep their row.
CREATE TABLE webhook (
  id UUID NOT NULL,
  tenant_id UUID NOT NULL REFERENCES tenant (id),
  space_id UUID NOT NULL,
  name TEXT NOT NULL,
  verification TEXT NOT NULL,
  credential_id UUID NOT NULL,
  event_id TEXT,
  correlation TEXT,
  prompt TEXT,
  rate_limit_per_minute BIGINT NOT NULL,
  allowed_cidrs TEXT,
  default_priority TEXT,
  enabled BOOLEAN NOT NULL,
  created_by TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  deleted_at BIGINT,
  version BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, id),
  FOREIGN KEY (tenant_id, space_id) REFERENCES space (tenant_id, id),
  FOREIGN KEY (tenant_id, credential_id) REFERENCES credential (tenant_id, id)
);
CREATE INDEX webhook_by_space ON webhook (tenant_id, space_id);

-- A request to a webhook. That of an accepted one is written when it is applied; until then the log of accepted events
-- holds it, which is why `duplicate_of` is no key.
CREATE TABLE delivery (
  id UUID NOT NULL,
  tenant_id UUID NOT NULL REFERENCES tenant (id),
  webhook_id UUID NOT NULL,
  received_at BIGINT NOT NULL,
  result TEXT NOT NULL,
  reason TEXT,
  thread_id UUID,
  turn_id UUID,
  duplicate_of UUID,
  headers TEXT NOT NULL,
  -- NULL where the message holds the body.
  body_preview TEXT,
  body_bytes BIGINT NOT NULL,
  body_hash BYTEA NOT NULL,
  event_id TEXT,
  requester_kind TEXT NOT NULL,
  requester_id TEXT NOT NULL,
  subject_kind TEXT NOT NULL,
  subject_user_id UUID,
  subject_connection_id UUID,
  client_kind TEXT NOT NULL,
  client_id TEXT,
  applied_at BIGINT,
  count BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, id),
  FOREIGN KEY (tenant_id, webhook_id) REFERENCES webhook (tenant_id, id),
  FOREIGN KEY (tenant_id, thread_id) REFERENCES thread (tenant_id, id),
  FOREIGN KEY (tenant_id, turn_id) REFERENCES turn (tenant_id, id),
  FOREIGN KEY (tenant_id, subject_user_id) REFERENCES user_account (tenant_id, id),
  FOREIGN KEY (tenant_id, subject_connection_id) REFERENCES connection (tenant_id, id)
);
-- For every list and count: results are few, so all of them are few ranges.
CREATE INDEX delivery_by_result ON delivery (tenant_id, webhook_id, result, received_at, id);
CREATE INDEX delivery_by_connection ON delivery (tenant_id, subject_connection_id)
  WHERE subject_connection_id IS NOT NULL;

-- What was sent, whole, for a replay: of accepted deliveries only. Its id is the delivery's.
CREATE TABLE delivery_envelope (
  id UUID NOT NULL,
  tenant_id UUID NOT NULL REFERENCES tenant (id),
  envelope BYTEA NOT NULL,
  PRIMARY KEY (tenant_id, id),
  FOREIGN KEY (tenant_id, id) REFERENCES delivery (tenant_id, id)
);

-- MCP servers -------------------------------------------------------------------------------------

-- Deleted ones keep their row.
CREATE TABLE mcp_server (
  id UUID NOT NULL,
  tenant_id UUID NOT NULL REFERENCES tenant (id),
  name TEXT NOT NULL,
  slug TEXT NOT NULL,
  url TEXT NOT NULL,
  transport TEXT NOT NULL,
  auth TEXT NOT NULL,
  discovered TEXT,
  tool_allowlist TEXT,
  credential_id UUID,
  status TEXT NOT NULL,
  definition_hash TEXT NOT NULL,
  approved_hash TEXT,
  decided_by TEXT,
  decided_at BIGINT,
  reason TEXT,
  issuer TEXT,
  outside_spaces BOOLEAN NOT NULL,
  last_error TEXT,
  checked_at BIGINT,
  created_by TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  deleted_at BIGINT,
  version BIGINT NOT NULL,
  tools_version BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, id),
  FOREIGN KEY (tenant_id, credential_id) REFERENCES credential (tenant_id, id)
);
CREATE UNIQUE INDEX mcp_server_unique_slug ON mcp_server (tenant_id, slug) WHERE deleted_at IS NULL;

-- The last known definition of each tool, and what the operator decided of it.
CREATE TABLE mcp_tool (
  id UUID NOT NULL,
  tenant_id UUID NOT NULL REFERENCES tenant (id),
  mcp_server_id UUID NOT NULL,
  name TEXT NOT NULL,
  description TEXT NOT NULL,
  input_schema TEXT NOT NULL,
  details TEXT NOT NULL,
  definition_hash TEXT NOT NULL,
  approved_hash TEXT,
  effect TEXT,
  idempotent BOOLEAN NOT NULL,
  seen_at BIGINT NOT NULL,
  gone_at BIGINT,
  PRIMARY KEY (tenant_id, id),
  FOREIGN KEY (tenant_id, mcp_server_id) REFERENCES mcp_server (tenant_id, id)
);
CREATE UNIQUE INDEX mcp_tool_unique_name ON mcp_tool (tenant_id, mcp_server_id, name);

-- Who may do what ---------------------------------------------------------------------------------

GRANT SELECT, INSERT, UPDATE, DELETE ON
  tenant, route, job, quota, intake_event, text_search, user_account, session, token, invitation, idempotency_key,
  audit_unsealed, audit_refused, credential, credential_version, key_check, oauth_client, oauth_flow, connection, space,
  space_member, space_tool_source, thread, message, turn, step, thread_event, agent, webhook, delivery, delivery_envelope,
  mcp_server, mcp_tool
TO thinkwork_app;

GRANT USAGE ON SEQUENCE intake_event_number TO thinkwork_app;

-- What was applied: `check` tells whether a start would migrate.
GRANT SELECT ON _sqlx_migrations TO thinkwork_app;

-- Append-only.
GRANT SELECT, INSERT ON audit_event, audit_seal, audit_checkpoint, space_announcement TO thinkwork_app;

-- A tenant's rows exist only for a transaction that names the tenant, even for the owner. The tables without a policy
-- (tenant, route, job, quota, intake_event, audit_unsealed, audit_refused, key_check) hold nothing that a worker of any
-- tenant could not see.
DO $$
DECLARE
  name text;
BEGIN
  FOREACH name IN ARRAY ARRAY[
    'text_search', 'user_account', 'session', 'token', 'invitation', 'idempotency_key', 'audit_event', 'audit_seal',
    'audit_checkpoint', 'credential', 'credential_version', 'oauth_client', 'oauth_flow', 'connection', 'space',
    'space_announcement', 'space_member', 'space_tool_source', 'thread', 'message', 'turn', 'step', 'thread_event',
    'agent', 'webhook', 'delivery', 'delivery_envelope', 'mcp_server', 'mcp_tool'
  ] LOOP
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
    EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
    EXECUTE format(
      'CREATE POLICY tenant ON %I TO thinkwork_app
       USING (tenant_id = nullif(current_setting(''tw.tenant'', true), '''')::uuid)',
      name
    );
  END LOOP;
END
$$;

-- What fits a search, in no order, at most so much of it: of the transaction's tenant, as everywhere. A function of the
-- owner asks, since behind a policy only operators that cannot leak what they compare may use an index, and that of words
-- is none of them (https://www.postgresql.org/docs/current/ddl-rowsecurity.html). So the owner sees this one table whole.
CREATE POLICY finder ON text_search FOR SELECT TO CURRENT_USER USING (true);
CREATE FUNCTION text_search_find(query tsquery, groups uuid[], most bigint) RETURNS SETOF uuid
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = public, pg_temp SET enable_seqscan = off SET enable_indexscan = off
AS $$
  SELECT id FROM text_search
  WHERE tenant_id = nullif(current_setting('tw.tenant', true), '')::uuid AND words @@ query AND group_id = ANY (groups)
  LIMIT most
$$;
REVOKE EXECUTE ON FUNCTION text_search_find FROM PUBLIC;
GRANT EXECUTE ON FUNCTION text_search_find TO thinkwork_app;
