//! Tests of the pure decisions.

use proptest::prelude::*;
use thinkwork_linear_time::assert_linear;
use thinkwork_primitives::{
    ActingClient, Channel, ConnectionId, CredentialSubject, Marks, MessageId, Requester, SpaceId, StepId, ThreadId,
    Timestamp, TriggerId, TurnId, UserId, WebhookId, limits,
};

use super::{IncomingMessage, MessageRole, Step, StepKind, StepStatus, ThreadStatus, Turn, TurnStatus, rules};

fn of(user: UserId) -> CredentialSubject {
    CredentialSubject::User { user, connection: None }
}

fn incoming(role: MessageRole, requester: Requester, subject: CredentialSubject) -> IncomingMessage {
    IncomingMessage {
        space: SpaceId::new(),
        thread: None,
        channel: Channel::Chat,
        title: None,
        role,
        text: "text".to_owned(),
        data: None,
        requester,
        client: ActingClient::System,
        subject,
        correlation: None,
        priority: None,
        marks: Marks::default(),
        source_event: None,
    }
}

fn people() -> (UserId, UserId) {
    (UserId::new(), UserId::new())
}

fn requesters(ana: UserId) -> impl Strategy<Value = Requester> {
    prop_oneof![
        Just(Requester::User(ana)),
        Just(Requester::User(UserId::new())),
        Just(Requester::Webhook(WebhookId::new())),
        Just(Requester::Trigger(TriggerId::new())),
        Just(Requester::Schedule(uuid::Uuid::now_v7())),
        Just(Requester::Extension("tracker".to_owned())),
        Just(Requester::server()),
    ]
}

fn subjects(ana: UserId) -> impl Strategy<Value = CredentialSubject> {
    let connected = CredentialSubject::User { user: ana, connection: Some(ConnectionId::new()) };
    prop_oneof![Just(CredentialSubject::None), Just(CredentialSubject::Tenant), Just(of(ana)), Just(connected)]
}

fn roles() -> impl Strategy<Value = MessageRole> {
    prop_oneof![Just(MessageRole::User), Just(MessageRole::Agent), Just(MessageRole::System), Just(MessageRole::Data),]
}

proptest! {
    #[test]
    fn l76_work_gets_a_persons_subject_only_from_that_person_or_their_trigger(
        (requester, subject, role) in {
            let ana = UserId::new();
            (requesters(ana), subjects(ana), roles())
        }
    ) {
        let taken = rules::check_incoming(&incoming(role, requester.clone(), subject)).is_ok();
        if taken {
            match (&requester, subject.user()) {
                (Requester::User(asker), owner) => prop_assert_eq!(owner, Some(*asker)),
                (Requester::Trigger(_), owner) => prop_assert!(owner.is_some()),
                (_, owner) => prop_assert_eq!(owner, None),
            }
            prop_assert!(matches!(role, MessageRole::User | MessageRole::Data));
        }
    }

    #[test]
    fn s03_a_step_opens_nobodys_credential_but_the_turns(
        (requester, may, used) in {
            let ana = UserId::new();
            (requesters(ana), subjects(ana), subjects(ana))
        }
    ) {
        if rules::may_open(&requester, may, used) && used.user().is_some() {
            prop_assert_eq!(used.user(), may.user());
            match requester {
                Requester::User(asker) => prop_assert_eq!(used.user(), Some(asker)),
                Requester::Trigger(_) => {}
                other => prop_assert!(false, "{other:?} opened a person's credential"),
            }
        }
    }

    #[test]
    fn a_title_is_one_line_that_a_list_can_show(given in proptest::option::of("\\PC{0,200}"), text in "(.|\n){0,300}") {
        let title = rules::title_of(given.as_deref(), &text);
        prop_assert!((1..=120).contains(&title.chars().count()));
        prop_assert!(!title.chars().any(char::is_control));
    }
}

#[test]
fn data_is_untrusted_whatever_it_says_of_itself() {
    let check = |role, requester, subject, private, untrusted| {
        let expected = Marks { private, untrusted, private_to: None };
        assert_eq!(rules::arrival_marks(&incoming(role, requester, subject)), expected);
    };
    let (ana, _) = people();
    check(MessageRole::User, Requester::User(ana), of(ana), false, false);
    check(MessageRole::Data, Requester::Webhook(WebhookId::new()), CredentialSubject::None, false, true);
    check(MessageRole::Data, Requester::Trigger(TriggerId::new()), of(ana), true, true);
}

#[test]
fn input_reopens_what_was_closed_and_leaves_the_rest() {
    let check = |before, after| assert_eq!(rules::status_after_input(before), after);
    check(ThreadStatus::Done, ThreadStatus::InProgress);
    check(ThreadStatus::Cancelled, ThreadStatus::InProgress);
    check(ThreadStatus::Blocked, ThreadStatus::Blocked);
    check(ThreadStatus::InReview, ThreadStatus::InReview);
    assert_eq!(rules::status_after_start(ThreadStatus::Todo), ThreadStatus::InProgress);
    assert_eq!(rules::status_after_start(ThreadStatus::Blocked), ThreadStatus::Blocked);
}

#[test]
fn a_title_is_the_first_line() {
    let check = |given, text, title: &str| assert_eq!(rules::title_of(given, text), title);
    check(None, "\n  Find the invoice \nof May", "Find the invoice");
    check(Some("May"), "Find the invoice", "May");
    check(Some("  "), "Find the invoice", "Find the invoice");
    check(None, "", "Untitled");
    check(None, &"a".repeat(200), &format!("{}…", "a".repeat(119)));
}

fn turn_of(ana: UserId, marks: Marks) -> Turn {
    let now = Timestamp::from_micros(0);
    Turn {
        id: TurnId::new(),
        thread: ThreadId::new(Channel::Chat),
        space: SpaceId::new(),
        message: MessageId::new(),
        message_sequence: 1,
        status: TurnStatus::Succeeded,
        requester: Requester::User(ana),
        client: ActingClient::Agent,
        subject: of(ana),
        marks,
        tools_offered: None,
        tools_left_out: None,
        failure: None,
        created_at: now,
        started_at: Some(now),
        finished_at: Some(now),
        steps_deleted_at: None,
    }
}

fn step_of(turn: &Turn, kind: StepKind, subject: CredentialSubject) -> Step {
    let text = |text: &str| Some(text.to_owned());
    Step {
        id: StepId::new(),
        turn: turn.id,
        thread: turn.thread,
        position: 1,
        kind,
        name: "notes__search".to_owned(),
        status: StepStatus::Succeeded,
        effect: None,
        idempotent: false,
        requester: turn.requester.clone(),
        client: ActingClient::Agent,
        subject,
        source: None,
        input: text("whole input"),
        output: text("whole output"),
        input_preview: text("input"),
        output_preview: text("output"),
        failure: None,
        started_at: turn.created_at,
        finished_at: turn.finished_at,
    }
}

#[test]
fn previews_of_a_persons_credential_are_for_that_person_alone() {
    let (ana, bo) = people();
    let turn = turn_of(ana, Marks::default());
    let steps = || {
        vec![
            step_of(&turn, StepKind::Model, CredentialSubject::Tenant),
            step_of(&turn, StepKind::Tool, of(ana)),
            step_of(&turn, StepKind::Model, CredentialSubject::Tenant),
        ]
    };
    let shown = |viewer| -> Vec<bool> {
        let seen = rules::visible_steps(&turn, steps(), viewer);
        assert!(seen.iter().all(|step| step.input.is_none() && step.output.is_none()));
        seen.iter().map(|step| step.input_preview.is_some() && step.output_preview.is_some()).collect()
    };
    assert_eq!(shown(Some(ana)), [true, true, true]);
    // What the model was told after the tool answered quotes the answer.
    assert_eq!(shown(Some(bo)), [true, false, false]);
    assert_eq!(shown(None), [true, false, false]);
}

#[test]
fn a_turn_that_was_private_from_its_start_shows_no_preview_to_others() {
    let (ana, bo) = people();
    let turn = turn_of(ana, Marks { private: true, untrusted: false, private_to: Some(ana) });
    let steps = vec![step_of(&turn, StepKind::Model, CredentialSubject::Tenant)];
    let seen = rules::visible_steps(&turn, steps.clone(), Some(bo));
    assert!(seen.iter().all(|step| step.input_preview.is_none() && rules::is_withheld(&turn, step, Some(bo))));
    assert!(rules::visible_steps(&turn, steps, Some(ana)).iter().all(|step| step.input_preview.is_some()));
}

#[test]
fn l108_messages_are_read_in_linear_time() {
    let marks = ["a", "\n", "\0", "\u{202e}"];
    assert_linear(&marks, limits::MESSAGE_TEXT_BYTES_MAX, |text| {
        (
            rules::title_of(Some(text), "a"),
            rules::title_of(None, text),
            rules::storable(text),
            rules::check_title(text).is_ok(),
        )
    });
}
