-- Everything a fresh database has, for SQLite. The same for PostgreSQL is in ../postgres; a test compares the two.
--
-- Ids are UUIDv7 as 16 bytes, times microseconds since 1970 (UTC).
--
-- A tenant's table begins with `id` and `tenant_id` and has (tenant_id, id) as its primary key.
-- Foreign keys between such tables carry the tenant, so that no row can name another tenant's. There is none where the
-- other row may be of several tables (`…_kind`, `…_id`), may come later or may be gone.
--
-- Tables of a few ids are WITHOUT ROWID: the table is then its primary key's tree, which spares a second one
-- (https://www.sqlite.org/withoutrowid.html).

CREATE TABLE tenant (
  id BLOB NOT NULL,
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
  key_hash BLOB NOT NULL,
  tenant_id BLOB NOT NULL REFERENCES tenant (id),
  row_id BLOB NOT NULL,
  PRIMARY KEY (kind, key_hash, row_id)
) WITHOUT ROWID;
CREATE INDEX route_by_row ON route (kind, row_id);

-- Work that a transaction decided on and a worker does later.
CREATE TABLE job (
  id BLOB NOT NULL,
  tenant_id BLOB NOT NULL REFERENCES tenant (id),
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
  lease BLOB,
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
) WITHOUT ROWID;

-- Accepted inbound events. An event is found by its id only while it waits; what stays of it is its dedupe key. It has
-- no key to its tenant: storing events is what has to be fastest, and whoever stores one has just found the tenant by
-- its route.
CREATE TABLE intake_event (
  -- The order in which events were stored, whatever clocks say.
  number INTEGER PRIMARY KEY NOT NULL,
  id BLOB NOT NULL,
  tenant_id BLOB NOT NULL,
  source TEXT NOT NULL,
  dedupe_key BLOB NOT NULL,
  order_key TEXT NOT NULL,
  -- NULL once the event is applied.
  body BLOB,
  body_hash BLOB NOT NULL,
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

-- The words by which something is found, and in `scope` the marks that say who may find it: `_g…` its group, `_i…` itself,
-- `_l…` what it is filtered by. The code splits text into words, so the tokenizer has only to keep them as they are.
CREATE VIRTUAL TABLE text_search USING fts5(
  id UNINDEXED, tenant_id UNINDEXED, scope, words, tokenize = "ascii tokenchars '_'", detail = none, columnsize = 0
);
-- Its words, to be looked up by how they begin.
CREATE VIRTUAL TABLE text_search_word USING fts5vocab('text_search', 'row');

-- People ----------------------------------------------------------------------------------------

-- People are disabled, never deleted.
CREATE TABLE user_account (
  id BLOB NOT NULL,
  tenant_id BLOB NOT NULL REFERENCES tenant (id),
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
  id BLOB NOT NULL,
  tenant_id BLOB NOT NULL REFERENCES tenant (id),
  user_id BLOB NOT NULL,
  token_hash BLOB NOT NULL,
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
  id BLOB NOT NULL,
  tenant_id BLOB NOT NULL REFERENCES tenant (id),
  name TEXT NOT NULL,
  kind TEXT NOT NULL,
  audience TEXT NOT NULL,
  scope TEXT NOT NULL,
  user_id BLOB,
  token_hash BLOB NOT NULL,
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
  id BLOB NOT NULL,
  tenant_id BLOB NOT NULL REFERENCES tenant (id),
  user_id BLOB NOT NULL,
  purpose TEXT NOT NULL,
  code_hash BLOB NOT NULL,
  created_at BIGINT NOT NULL,
  expires_at BIGINT NOT NULL,
  used_at BIGINT,
  PRIMARY KEY (tenant_id, id),
  FOREIGN KEY (tenant_id, user_id) REFERENCES user_account (tenant_id, id)
);
CREATE INDEX invitation_by_user ON invitation (tenant_id, user_id);

CREATE TABLE idempotency_key (
  id BLOB NOT NULL,
  tenant_id BLOB NOT NULL REFERENCES tenant (id),
  key_hash BLOB NOT NULL,
  body_hash BLOB NOT NULL,
  resource TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, id)
);
CREATE UNIQUE INDEX idempotency_key_unique_key ON idempotency_key (tenant_id, key_hash);
CREATE INDEX idempotency_key_by_age ON idempotency_key (tenant_id, created_at);

-- The record --------------------------------------------------------------------------------------

-- What happened. It has no keys to what it tells of: an event stands, whatever became of that.
CREATE TABLE audit_event (
  id BLOB NOT NULL,
  tenant_id BLOB NOT NULL REFERENCES tenant (id),
  at BIGINT NOT NULL,
  action TEXT NOT NULL,
  requester_kind TEXT NOT NULL,
  requester_id TEXT NOT NULL,
  subject_kind TEXT NOT NULL,
  subject_user_id BLOB,
  subject_connection_id BLOB,
  client_kind TEXT NOT NULL,
  client_id TEXT,
  surface TEXT,
  target_kind TEXT,
  target_id TEXT,
  thread_id BLOB,
  turn_id BLOB,
  payload TEXT NOT NULL,
  -- Of tenant, id and payload, under a key that the database does not hold.
  mac BLOB NOT NULL,
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
-- INSERT OR REPLACE would delete the row that it conflicts with, which fires no trigger of deletes: what is there already is
-- refused before that, as for the two tables below (https://www.sqlite.org/lang_conflict.html).
CREATE TRIGGER audit_event_no_replace BEFORE INSERT ON audit_event
WHEN EXISTS (SELECT 1 FROM audit_event WHERE tenant_id = NEW.tenant_id AND id = NEW.id)
  OR EXISTS (SELECT 1 FROM audit_event WHERE rowid = NEW.rowid)
BEGIN SELECT RAISE(ABORT, 'audit_event is append-only'); END;
CREATE TRIGGER audit_event_no_update BEFORE UPDATE ON audit_event
BEGIN SELECT RAISE(ABORT, 'audit_event is append-only'); END;
CREATE TRIGGER audit_event_no_delete BEFORE DELETE ON audit_event
BEGIN SELECT RAISE(ABORT, 'audit_event is append-only'); END;

-- Events that the sealer has still to chain. Ids only, so that one look finds the tenants with work.
CREATE TABLE audit_unsealed (
  tenant_id BLOB NOT NULL,
  event_id BLOB NOT NULL,
  PRIMARY KEY (tenant_id, event_id),
  FOREIGN KEY (tenant_id, event_id) REFERENCES audit_event (tenant_id, id)
) WITHOUT ROWID;

-- What was taken off that list without being chained, and since when: the event is gone, or is none that we recorded.
CREATE TABLE audit_refused (
  tenant_id BLOB NOT NULL,
  event_id BLOB NOT NULL,
  refused_at BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, event_id)
) WITHOUT ROWID;

-- The chain over the events. It has no key to them: that an event is gone is what its verification finds out.
CREATE TABLE audit_seal (
  id BLOB NOT NULL,
  tenant_id BLOB NOT NULL REFERENCES tenant (id),
  sequence BIGINT NOT NULL,
  event_id BLOB NOT NULL,
  previous_hash BLOB NOT NULL,
  hash BLOB NOT NULL,
  sealed_at BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, id)
);
CREATE UNIQUE INDEX audit_seal_unique_sequence ON audit_seal (tenant_id, sequence);
CREATE UNIQUE INDEX audit_seal_unique_event ON audit_seal (tenant_id, event_id);
CREATE TRIGGER audit_seal_no_replace BEFORE INSERT ON audit_seal
WHEN EXISTS (SELECT 1 FROM audit_seal WHERE tenant_id = NEW.tenant_id AND id = NEW.id)
  OR EXISTS (SELECT 1 FROM audit_seal WHERE tenant_id = NEW.tenant_id AND sequence = NEW.sequence)
  OR EXISTS (SELECT 1 FROM audit_seal WHERE tenant_id = NEW.tenant_id AND event_id = NEW.event_id)
  OR EXISTS (SELECT 1 FROM audit_seal WHERE rowid = NEW.rowid)
BEGIN SELECT RAISE(ABORT, 'audit_seal is append-only'); END;
CREATE TRIGGER audit_seal_no_update BEFORE UPDATE ON audit_seal
BEGIN SELECT RAISE(ABORT, 'audit_seal is append-only'); END;
CREATE TRIGGER audit_seal_no_delete BEFORE DELETE ON audit_seal
BEGIN SELECT RAISE(ABORT, 'audit_seal is append-only'); END;

-- Signed heads of the chain.
CREATE TABLE audit_checkpoint (
  id BLOB NOT NULL,
  tenant_id BLOB NOT NULL REFERENCES tenant (id),
  -- 0 is the beginning, signed with the tenant.
  sequence BIGINT NOT NULL,
  -- Of the checkpoint before, so that none can be missing in between.
  previous_sequence BIGINT,
  head BLOB NOT NULL,
  at BIGINT NOT NULL,
  signature BLOB NOT NULL,
  PRIMARY KEY (tenant_id, id)
);
CREATE UNIQUE INDEX audit_checkpoint_unique_sequence ON audit_checkpoint (tenant_id, sequence);
CREATE TRIGGER audit_checkpoint_no_replace BEFORE INSERT ON audit_checkpoint
WHEN EXISTS (SELECT 1 FROM audit_checkpoint WHERE tenant_id = NEW.tenant_id AND id = NEW.id)
  OR EXISTS (SELECT 1 FROM audit_checkpoint WHERE tenant_id = NEW.tenant_id AND sequence = NEW.sequence)
  OR EXISTS (SELECT 1 FROM audit_checkpoint WHERE rowid = NEW.rowid)
BEGIN SELECT RAISE(ABORT, 'audit_checkpoint is append-only'); END;
CREATE TRIGGER audit_checkpoint_no_update BEFORE UPDATE ON audit_checkpoint
BEGIN SELECT RAISE(ABORT, 'audit_checkpoint is append-only'); END;
CREATE TRIGGER audit_checkpoint_no_delete BEFORE DELETE ON audit_checkpoint
BEGIN SELECT RAISE(ABORT, 'audit_checkpoint is append-only'); END;

-- Credentials and connections ---------------------------------------------------------------------

-- A sealed secret of whoever `owner_kind` and `owner_id` name. Revoked ones keep their row.
CREATE TABLE credential (
  id BLOB NOT NULL,
  tenant_id BLOB NOT NULL REFERENCES tenant (id),
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
  id BLOB NOT NULL,
  tenant_id BLOB NOT NULL REFERENCES tenant (id),
  credential_id BLOB NOT NULL,
  version BIGINT NOT NULL,
  kek_id TEXT NOT NULL,
  wrapped_key BLOB,
  ciphertext BLOB,
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
  id BLOB NOT NULL,
  tenant_id BLOB NOT NULL REFERENCES tenant (id),
  target_kind TEXT NOT NULL,
  target_id BLOB NOT NULL,
  registration TEXT NOT NULL,
  issuer TEXT NOT NULL,
  callback_key TEXT NOT NULL,
  client_id TEXT NOT NULL,
  credential_id BLOB,
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
  id BLOB NOT NULL,
  tenant_id BLOB NOT NULL REFERENCES tenant (id),
  user_id BLOB NOT NULL,
  oauth_client_id BLOB NOT NULL,
  target_kind TEXT NOT NULL,
  target_id BLOB NOT NULL,
  purpose TEXT NOT NULL,
  state_hash BLOB NOT NULL,
  issuer TEXT NOT NULL,
  redirect_uri TEXT NOT NULL,
  resource TEXT,
  scopes TEXT NOT NULL,
  return_to TEXT NOT NULL,
  verifier_credential_id BLOB NOT NULL,
  cookie_hash BLOB NOT NULL,
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
  id BLOB NOT NULL,
  tenant_id BLOB NOT NULL REFERENCES tenant (id),
  user_id BLOB NOT NULL,
  target_kind TEXT NOT NULL,
  target_id BLOB NOT NULL,
  oauth_client_id BLOB NOT NULL,
  credential_id BLOB NOT NULL,
  account TEXT NOT NULL,
  scopes TEXT NOT NULL,
  status TEXT NOT NULL,
  status_reason TEXT,
  scopes_required TEXT NOT NULL,
  access_expires_at BIGINT,
  has_refresh_token BOOLEAN NOT NULL,
  refresh_lease BLOB,
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
  id BLOB NOT NULL,
  tenant_id BLOB NOT NULL REFERENCES tenant (id),
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
  id BLOB NOT NULL,
  tenant_id BLOB NOT NULL REFERENCES tenant (id),
  space_id BLOB NOT NULL,
  user_id BLOB NOT NULL,
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
  id BLOB NOT NULL,
  tenant_id BLOB NOT NULL REFERENCES tenant (id),
  space_id BLOB NOT NULL,
  user_id BLOB NOT NULL,
  joined_at BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, id),
  FOREIGN KEY (tenant_id, space_id) REFERENCES space (tenant_id, id),
  FOREIGN KEY (tenant_id, user_id) REFERENCES user_account (tenant_id, id)
);
CREATE INDEX space_announcement_by_time ON space_announcement (tenant_id, space_id, joined_at);
CREATE TRIGGER space_announcement_no_update BEFORE UPDATE ON space_announcement
BEGIN SELECT RAISE(ABORT, 'space_announcement is append-only'); END;
CREATE TRIGGER space_announcement_no_delete BEFORE DELETE ON space_announcement
BEGIN SELECT RAISE(ABORT, 'space_announcement is append-only'); END;

-- Which source of tools serves which Space, with which tools.
CREATE TABLE space_tool_source (
  id BLOB NOT NULL,
  tenant_id BLOB NOT NULL REFERENCES tenant (id),
  space_id BLOB NOT NULL,
  source_kind TEXT NOT NULL,
  source_id BLOB NOT NULL,
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
  id BLOB NOT NULL,
  tenant_id BLOB NOT NULL REFERENCES tenant (id),
  space_id BLOB NOT NULL,
  channel TEXT NOT NULL,
  title TEXT NOT NULL,
  status TEXT NOT NULL,
  priority TEXT NOT NULL,
  requester_kind TEXT NOT NULL,
  requester_id TEXT NOT NULL,
  subject_kind TEXT NOT NULL,
  subject_user_id BLOB,
  subject_connection_id BLOB,
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
  id BLOB NOT NULL,
  tenant_id BLOB NOT NULL REFERENCES tenant (id),
  thread_id BLOB NOT NULL,
  sequence BIGINT NOT NULL,
  role TEXT NOT NULL,
  text TEXT NOT NULL,
  data TEXT,
  requester_kind TEXT NOT NULL,
  requester_id TEXT NOT NULL,
  subject_kind TEXT NOT NULL,
  subject_user_id BLOB,
  subject_connection_id BLOB,
  client_kind TEXT NOT NULL,
  client_id TEXT,
  -- The turn that wrote it.
  turn_id BLOB,
  -- The event that it came with; its key in the log is forgotten before the message.
  source_event_id BLOB,
  mark_private BOOLEAN NOT NULL,
  mark_untrusted BOOLEAN NOT NULL,
  -- Who alone may read it, since their credential read something in it; empty again once they share it.
  private_to_user_id BLOB,
  created_at BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, id),
  FOREIGN KEY (tenant_id, thread_id) REFERENCES thread (tenant_id, id),
  FOREIGN KEY (tenant_id, subject_user_id) REFERENCES user_account (tenant_id, id),
  FOREIGN KEY (tenant_id, private_to_user_id) REFERENCES user_account (tenant_id, id),
  FOREIGN KEY (tenant_id, subject_connection_id) REFERENCES connection (tenant_id, id),
  FOREIGN KEY (tenant_id, turn_id) REFERENCES turn (tenant_id, id)
);
CREATE UNIQUE INDEX message_unique_sequence ON message (tenant_id, thread_id, sequence);
CREATE INDEX message_by_connection ON message (tenant_id, subject_connection_id)
  WHERE subject_connection_id IS NOT NULL;
CREATE UNIQUE INDEX message_unique_source_event ON message (tenant_id, source_event_id)
  WHERE source_event_id IS NOT NULL;

-- What answers one message.
CREATE TABLE turn (
  id BLOB NOT NULL,
  tenant_id BLOB NOT NULL REFERENCES tenant (id),
  thread_id BLOB NOT NULL,
  space_id BLOB NOT NULL,
  message_id BLOB NOT NULL,
  -- The place of that message in the thread: turns of a thread run in this order.
  message_sequence BIGINT NOT NULL,
  status TEXT NOT NULL,
  requester_kind TEXT NOT NULL,
  requester_id TEXT NOT NULL,
  subject_kind TEXT NOT NULL,
  subject_user_id BLOB,
  subject_connection_id BLOB,
  client_kind TEXT NOT NULL,
  client_id TEXT,
  mark_private BOOLEAN NOT NULL,
  mark_untrusted BOOLEAN NOT NULL,
  -- Who alone may read what its steps read and wrote.
  private_to_user_id BLOB,
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

CREATE TABLE step (
  id BLOB NOT NULL,
  tenant_id BLOB NOT NULL REFERENCES tenant (id),
  turn_id BLOB NOT NULL,
  thread_id BLOB NOT NULL,
  position BIGINT NOT NULL,
  kind TEXT NOT NULL,
  name TEXT NOT NULL,
  status TEXT NOT NULL,
  effect TEXT,
  idempotent BOOLEAN NOT NULL,
  requester_kind TEXT NOT NULL,
  requester_id TEXT NOT NULL,
  subject_kind TEXT NOT NULL,
  subject_user_id BLOB,
  subject_connection_id BLOB,
  client_kind TEXT NOT NULL,
  client_id TEXT,
  source_kind TEXT,
  source_id BLOB,
  -- The version of a credential that was opened for it. Its row may be deleted once it is erased.
  credential_id BLOB,
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
  id BLOB NOT NULL,
  tenant_id BLOB NOT NULL REFERENCES tenant (id),
  thread_id BLOB NOT NULL,
  sequence BIGINT NOT NULL,
  kind TEXT NOT NULL,
  ref_id BLOB NOT NULL,
  at BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, id),
  FOREIGN KEY (tenant_id, thread_id) REFERENCES thread (tenant_id, id)
);
CREATE UNIQUE INDEX thread_event_unique_sequence ON thread_event (tenant_id, thread_id, sequence);

-- The tenant's platform agent.
CREATE TABLE agent (
  id BLOB NOT NULL,
  tenant_id BLOB NOT NULL REFERENCES tenant (id),
  model_base_url TEXT,
  model TEXT,
  instructions TEXT NOT NULL,
  credential_id BLOB,
  updated_at BIGINT NOT NULL,
  version BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, id),
  FOREIGN KEY (tenant_id, credential_id) REFERENCES credential (tenant_id, id)
);
CREATE UNIQUE INDEX agent_unique_tenant ON agent (tenant_id);

-- Webhooks ----------------------------------------------------------------------------------------

-- Deleted ones keep their row.
CREATE TABLE webhook (
  id BLOB NOT NULL,
  tenant_id BLOB NOT NULL REFERENCES tenant (id),
  space_id BLOB NOT NULL,
  name TEXT NOT NULL,
  verification TEXT NOT NULL,
  credential_id BLOB NOT NULL,
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
  id BLOB NOT NULL,
  tenant_id BLOB NOT NULL REFERENCES tenant (id),
  webhook_id BLOB NOT NULL,
  received_at BIGINT NOT NULL,
  result TEXT NOT NULL,
  reason TEXT,
  thread_id BLOB,
  turn_id BLOB,
  duplicate_of BLOB,
  headers TEXT NOT NULL,
  -- NULL where the message holds the body.
  body_preview TEXT,
  body_bytes BIGINT NOT NULL,
  body_hash BLOB NOT NULL,
  event_id TEXT,
  requester_kind TEXT NOT NULL,
  requester_id TEXT NOT NULL,
  subject_kind TEXT NOT NULL,
  subject_user_id BLOB,
  subject_connection_id BLOB,
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
  id BLOB NOT NULL,
  tenant_id BLOB NOT NULL REFERENCES tenant (id),
  envelope BLOB NOT NULL,
  PRIMARY KEY (tenant_id, id),
  FOREIGN KEY (tenant_id, id) REFERENCES delivery (tenant_id, id)
);

-- MCP servers -------------------------------------------------------------------------------------

-- Deleted ones keep their row.
CREATE TABLE mcp_server (
  id BLOB NOT NULL,
  tenant_id BLOB NOT NULL REFERENCES tenant (id),
  name TEXT NOT NULL,
  slug TEXT NOT NULL,
  url TEXT NOT NULL,
  transport TEXT NOT NULL,
  auth TEXT NOT NULL,
  discovered TEXT,
  tool_allowlist TEXT,
  credential_id BLOB,
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
  id BLOB NOT NULL,
  tenant_id BLOB NOT NULL REFERENCES tenant (id),
  mcp_server_id BLOB NOT NULL,
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
