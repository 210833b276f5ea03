//! The inspector gives the assembly's answer, and both give what the product promises: over generated configurations.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock, Mutex};

use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::json;
use thinkwork_database::Options;
use thinkwork_primitives::{
    ActingClient, BuiltInSetId, ConnectionId, CredentialSubject, Effect, Requester, SpaceId, TenantId, Timestamp,
    ToolSourceId, UserId, WebhookId,
};

use super::assembly::{Undiscovered, offered_by};
use super::facts::{ApprovedTool, GrantStatus, KnownTools, OutsideSpaces, SourceFacts};
use super::*;
use crate::spaces::{SourcePolicy, SpaceSource};

const TOOL_NAMES: [&str; 5] = ["delete", "read", "search", "send", "weird.name"];

/// One source of a generated configuration.
#[derive(Clone, Debug)]
struct Generated {
    facts: SourceFacts,
    /// What it says when it is asked for its tools.
    answer: Result<Vec<Arc<ApprovedTool>>, LeftOutReason>,
    /// Whether it serves the Space, and with what.
    policy: Option<SourcePolicy>,
}

/// A source over generated facts; like the real one it remembers what it was told.
struct Memory {
    sources: Mutex<Vec<Generated>>,
    asked: Mutex<usize>,
}

impl ToolSource for Memory {
    fn serves(&self, source: ToolSourceId) -> bool {
        matches!(source, ToolSourceId::BuiltInSet(_))
    }

    fn facts<'a>(
        &'a self,
        _tx: &'a mut Tx,
        _context: &'a ToolContext,
        policies: Option<&'a [SpaceSource]>,
        only: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Vec<SourceFacts>, Error>> {
        let all = self.sources.lock().unwrap();
        let is_served = |facts: &SourceFacts| {
            policies.is_none_or(|policies| policies.iter().any(|policy| policy.source == facts.source))
        };
        let found = all
            .iter()
            .map(|one| one.facts.clone())
            .filter(|facts| is_served(facts) && only.is_none_or(|only| only == facts.slug));
        let found = found.collect();
        Box::pin(async move { Ok(found) })
    }

    fn discover<'a>(
        &'a self,
        _context: &'a ToolContext,
        source: ToolSourceId,
    ) -> BoxFuture<'a, Result<Vec<Arc<ApprovedTool>>, LeftOutReason>> {
        *self.asked.lock().unwrap() += 1;
        let mut all = self.sources.lock().unwrap();
        let asked = all.iter_mut().find(|one| one.facts.source == source).unwrap();
        if let Ok(tools) = &asked.answer {
            asked.facts.tools = KnownTools::Known(tools.clone());
        }
        let answer = asked.answer.clone();
        Box::pin(async move { answer })
    }

    fn call<'a>(&'a self, _call: &'a Call) -> BoxFuture<'a, Result<ToolResult, Error>> {
        Box::pin(async { Err(Error::Unknown) })
    }
}

fn tools() -> impl Strategy<Value = Vec<Arc<ApprovedTool>>> {
    let effects = prop::collection::vec(select(vec![Effect::Read, Effect::Write, Effect::Send]), TOOL_NAMES.len());
    (subsequence(TOOL_NAMES.to_vec(), 0..=TOOL_NAMES.len()), effects).prop_map(|(names, effects)| {
        let tool = |(name, effect): (&str, Effect)| {
            Arc::new(ApprovedTool {
                upstream_name: name.to_owned(),
                description: String::new(),
                input_schema: Arc::default(),
                details: Arc::default(),
                effect,
                idempotent: false,
                definition_hash: format!("hash of {name}"),
            })
        };
        names.into_iter().zip(effects).map(tool).collect()
    })
}

fn allowlist() -> impl Strategy<Value = Option<Vec<String>>> {
    let names = subsequence(TOOL_NAMES.to_vec(), 0..=TOOL_NAMES.len());
    prop::option::of(names.prop_map(|names| names.into_iter().map(str::to_owned).collect()))
}

fn policy() -> impl Strategy<Value = SourcePolicy> {
    let approval = select(vec![Approval::Never, Approval::Once, Approval::Always]);
    let approvals = prop::collection::btree_map(select(TOOL_NAMES.to_vec()), approval, 0..3);
    (allowlist(), approvals).prop_map(|(tool_allowlist, approvals)| SourcePolicy {
        tool_allowlist,
        approvals: approvals
            .into_iter()
            .map(|(name, approval)| (name.to_owned(), approval))
            .collect::<BTreeMap<_, _>>(),
    })
}

fn generated() -> impl Strategy<Value = Generated> {
    let failed = select(vec![LeftOutReason::Timeout, LeftOutReason::Unreachable, LeftOutReason::NotSupported]);
    let known = prop_oneof![
        3 => tools().prop_map(KnownTools::Known),
        1 => Just(KnownTools::Undiscovered),
        1 => failed.clone().prop_map(KnownTools::Failed),
    ];
    let needs = select(vec![
        CredentialRequirement::Nothing,
        CredentialRequirement::TenantKey,
        CredentialRequirement::UserGrant,
        CredentialRequirement::UserGrant,
    ]);
    let grant = select(vec![GrantStatus::Connected(ConnectionId::new()), GrantStatus::Expired, GrantStatus::None]);
    let answer = prop_oneof![3 => tools().prop_map(Ok), 1 => failed.prop_map(Err)];
    let marked = any::<bool>().prop_map(|marked| {
        marked.then(|| OutsideSpaces {
            granted_by: Requester::User(UserId::new()),
            granted_at: Timestamp::from_micros(7),
        })
    });
    let facts = (prop::bool::weighted(0.8), needs, grant, allowlist(), marked, known);
    (facts, answer, prop::option::weighted(0.8, policy())).prop_map(|(facts, answer, policy)| {
        let (is_approved, needs, grant, tool_allowlist, outside_spaces, tools) = facts;
        let source = BuiltInSetId::new().into();
        let connect_url = (needs == CredentialRequirement::UserGrant).then(|| "https://here/me/connect".to_owned());
        let slug = String::new();
        let facts =
            SourceFacts { source, slug, is_approved, needs, grant, tool_allowlist, outside_spaces, tools, connect_url };
        Generated { facts, answer, policy }
    })
}

/// Sources with slugs of their own.
fn configuration() -> impl Strategy<Value = Vec<Generated>> {
    let slugs = subsequence(vec!["a", "b", "calendar", "mail", "notes"], 0..=5);
    slugs.prop_flat_map(|slugs| {
        prop::collection::vec(generated(), slugs.len()).prop_map(move |mut sources| {
            for (source, slug) in sources.iter_mut().zip(&slugs) {
                source.facts.slug = (*slug).to_owned();
            }
            sources
        })
    })
}

fn context() -> impl Strategy<Value = ToolContext> {
    let ana = UserId::new();
    let bo = UserId::new();
    let own = |user| CredentialSubject::User { user, connection: None };
    let who = select(vec![
        (Requester::User(ana), own(ana)),
        (Requester::User(ana), own(ana)),
        (Requester::User(ana), own(bo)),
        (Requester::User(ana), CredentialSubject::None),
        (Requester::Webhook(WebhookId::new()), CredentialSubject::None),
        (Requester::Webhook(WebhookId::new()), own(ana)),
        (Requester::System("tok_1".to_owned()), CredentialSubject::Tenant),
    ]);
    (who, prop::option::weighted(0.8, Just(SpaceId::new())), any::<bool>()).prop_map(
        |((requester, may_use), space, reads_only)| ToolContext {
            tenant: TenantId::new(),
            space,
            client: ActingClient::Agent,
            requester,
            may_use,
            reads_only,
            thread: None,
            turn: None,
            trace: None,
            cancellation: tokio_util::sync::CancellationToken::new(),
        },
    )
}

/// Upstream names that a source may offer here, said once more in other words than the rules'.
fn promised(context: &ToolContext, one: &Generated, known: &[Arc<ApprovedTool>]) -> BTreeSet<String> {
    let is_here = match context.space {
        Some(_) => one.policy.is_some(),
        None => one.facts.outside_spaces.is_some(),
    };
    let has_way_in = one.facts.needs != CredentialRequirement::UserGrant
        || (context.requester.user().is_some()
            && context.requester.user() == context.may_use.user()
            && matches!(one.facts.grant, GrantStatus::Connected(_)));
    if !is_here || !one.facts.is_approved || !has_way_in {
        return BTreeSet::new();
    }
    let of_space =
        one.policy.as_ref().filter(|_| context.space.is_some()).and_then(|policy| policy.tool_allowlist.clone());
    let mut names: BTreeSet<String> = known
        .iter()
        .filter(|tool| !context.reads_only || tool.effect == Effect::Read)
        .map(|tool| tool.upstream_name.clone())
        .collect();
    for list in [one.facts.tool_allowlist.clone(), of_space].into_iter().flatten() {
        names.retain(|name| list.contains(name));
    }
    names
}

fn offered_names(offered: &OfferedTools, source: ToolSourceId) -> BTreeSet<String> {
    let of_source = offered.tools.iter().filter(|tool| tool.source == source);
    of_source.map(|tool| tool.upstream_name.clone()).collect()
}

/// An empty database, for the transaction that sources read in.
struct Database {
    runtime: tokio::runtime::Runtime,
    db: Db,
    _folder: tempfile::TempDir,
}

static DATABASE: LazyLock<Database> = LazyLock::new(|| {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("t.db").display());
    let options = Options { url, migration_url: None, connections_max: 4, subscribers: |_| Vec::new() };
    let db = runtime.block_on(Db::open(&options)).unwrap();
    Database { runtime, db, _folder: folder }
});

#[track_caller]
fn check(context: &ToolContext, configuration: Vec<Generated>) {
    let policies: Vec<SpaceSource> = configuration
        .iter()
        .filter_map(|one| {
            Some(SpaceSource {
                source: one.facts.source,
                policy: one.policy.clone()?,
                granted_by: Requester::User(UserId::new()),
                granted_at: Timestamp::from_micros(9),
            })
        })
        .collect();
    let policies = context.space.map(|_| policies.as_slice());
    let memory = Arc::new(Memory { sources: Mutex::new(configuration.clone()), asked: Mutex::new(0) });
    let sources: Vec<Arc<dyn ToolSource>> = vec![memory.clone()];
    let Database { runtime, db, .. } = &*DATABASE;
    let assemble = |undiscovered, only| {
        let work = async {
            let tx = db.read(context.tenant).await.unwrap();
            offered_by(&sources, tx, context, policies, only, undiscovered).await.unwrap()
        };
        runtime.block_on(work)
    };
    let inspect = || assemble(Undiscovered::Report, None).in_reach_of(context);

    let before = inspect();
    assert_eq!(*memory.asked.lock().unwrap(), 0, "looking asks nobody");
    let assembled = assemble(Undiscovered::Discover, None).in_reach_of(context);
    let asked = *memory.asked.lock().unwrap();
    let after = inspect();
    assert_eq!(*memory.asked.lock().unwrap(), asked, "looking asks nobody");

    let reasons = |offered: &OfferedTools| -> BTreeMap<ToolSourceId, LeftOutReason> {
        offered.left_out.iter().map(|left_out| (left_out.source, left_out.reason)).collect()
    };
    let reasons_before = reasons(&before);
    let reasons_assembled = reasons(&assembled);
    let reasons_after = reasons(&after);
    let unknown = reasons_before.values().filter(|reason| **reason == LeftOutReason::NotDiscovered).count();
    assert_eq!(asked, unknown, "asked are those of which the inspector says that nothing is known");
    for one in &configuration {
        let source = one.facts.source;
        let was_unknown = reasons_before.get(&source) == Some(&LeftOutReason::NotDiscovered);
        let failed = was_unknown && one.answer.is_err();
        // The inspector says what the assembly says wherever both know the same.
        if !was_unknown {
            assert_eq!(offered_names(&before, source), offered_names(&assembled, source));
            assert_eq!(reasons_before.get(&source), reasons_assembled.get(&source));
        }
        if failed {
            assert_eq!(reasons_assembled.get(&source), one.answer.as_ref().err());
        } else {
            assert_eq!(reasons_assembled.get(&source), reasons_after.get(&source));
        }
        // And it is what was promised.
        let known = match (&one.facts.tools, &one.answer) {
            (KnownTools::Known(tools), _) | (KnownTools::Undiscovered, Ok(tools)) => tools.clone(),
            _ => Vec::new(),
        };
        assert_eq!(offered_names(&assembled, source), promised(context, one, &known), "{one:?}");
    }
    if configuration.iter().all(|one| one.answer.is_ok()) {
        assert_eq!(assembled.by_source(), after.by_source());
        assert_eq!(assembled.left_out, after.left_out);
    }
    for tool in &assembled.tools {
        let found = assemble(Undiscovered::Report, Some(rules::slug_of(&tool.name))).find(&tool.name).unwrap();
        assert_eq!((found.source, &found.upstream_name), (tool.source, &tool.upstream_name));
        check_provenance(context, tool, configuration.iter().find(|one| one.facts.source == tool.source).unwrap());
    }
}

fn check_provenance(context: &ToolContext, tool: &Tool, one: &Generated) {
    let policy = one.policy.as_ref().filter(|_| context.space.is_some());
    let set = policy.and_then(|policy| policy.approvals.get(&tool.upstream_name).copied());
    let default = if tool.effect == Effect::Send { Approval::Always } else { Approval::Never };
    assert_eq!(tool.approval, set.unwrap_or(default));
    let narrowed: Vec<Narrowing> = [
        one.facts.tool_allowlist.as_ref().map(|_| Narrowing::Registration),
        policy.and_then(|policy| policy.tool_allowlist.as_ref()).map(|_| Narrowing::Space),
        context.reads_only.then_some(Narrowing::ReadScope),
    ]
    .into_iter()
    .flatten()
    .collect();
    assert_eq!(tool.provenance.narrowed_by, narrowed);
    let granted = &tool.provenance.granted_by;
    let act = if context.space.is_some() { GrantAct::Space } else { GrantAct::OutsideSpaces };
    assert_eq!((granted.act, granted.at.micros()), (act, if context.space.is_some() { 9 } else { 7 }));
    match one.facts.needs {
        CredentialRequirement::Nothing => assert_eq!(granted.credential_subject, CredentialSubject::None),
        CredentialRequirement::TenantKey => assert_eq!(granted.credential_subject, CredentialSubject::Tenant),
        CredentialRequirement::UserGrant => {
            assert_eq!(granted.credential_subject.user(), context.requester.user());
            assert!(granted.credential_subject.connection().is_some());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_inspector_gives_the_assemblys_answer(context in context(), configuration in configuration()) {
        check(&context, configuration);
    }
}

#[test]
fn what_a_turn_stores_of_its_tools_reads_back() {
    let source = OfferedSource {
        source: BuiltInSetId::new().into(),
        slug: "notes".to_owned(),
        provenance: Provenance {
            granted_by: GrantedBy {
                act: GrantAct::Space,
                requester: Requester::User(UserId::new()),
                at: Timestamp::from_micros(1_700_000_000_000_000),
                credential_subject: CredentialSubject::User { user: UserId::new(), connection: None },
            },
            narrowed_by: vec![Narrowing::Registration, Narrowing::ReadScope],
        },
        tools: vec![OfferedTool { name: "notes__read".to_owned(), effect: Effect::Read, approval: Approval::Never }],
    };
    let stored = json!(source);
    assert_eq!(stored["granted_by"]["act"], "space");
    assert_eq!(stored["narrowed_by"], json!(["registration", "read_scope"]));
    assert_eq!(stored["granted_by"]["credential_subject"]["kind"], "user");
    assert_eq!(serde_json::from_value::<OfferedSource>(stored).unwrap(), source);
}
