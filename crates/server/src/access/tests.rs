//! Tests of this slice that need no HTTP, through a real database.

use std::net::IpAddr;
use std::time::Duration;

use tempfile::TempDir;
use thinkwork_database::{Db, Options, schema};
use thinkwork_primitives::{AuthMethod, Clock, Identity, Principal, Role, Secret, UserId};
use thinkwork_vault::Vault;

use super::sign_in::SignIn;
use super::{Access, ClientInfo, Error, NewTenant, UserUpdate};
use crate::edge::InvalidField;
use crate::edge::caller::{Authenticate as _, Presented};

struct Fixture {
    access: Access,
    clock: Clock,
    _folder: TempDir,
}

const PASSWORD: &str = "correct horse battery";

fn secret(text: &str) -> Secret {
    Secret::from_text(text.to_owned())
}

async fn fixture() -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("thinkwork.db").display());
    let db =
        Db::open(&Options { url, migration_url: None, connections_max: 4, subscribers: |_| Vec::new() }).await.unwrap();
    let db = db.with_record_key(Vault::in_memory().unwrap().record_key());
    schema::migrate(&db).await.unwrap();
    let clock = Clock::system();
    let access = Access::new(db, clock.clone(), "https://work.acme.test".parse().unwrap());
    Fixture { access, clock, _folder: folder }
}

impl Fixture {
    async fn tenant(&self, slug: &str) -> NewTenant {
        let made = self.access.tenant_create(slug, slug, "ana@acme.test", "Ana").await.unwrap();
        self.access.password_set(made.tenant, made.owner, &secret(PASSWORD)).await.unwrap();
        made
    }

    async fn try_sign_in(&self, password: &str, client: &ClientInfo) -> Result<super::NewSession, Error> {
        let sign_in = SignIn { tenant: None, email: "Ana@Acme.test", password: &secret(password) };
        self.access.sign_in(sign_in, client).await
    }

    async fn known(&self, cookie: &Secret) -> bool {
        let presented = Presented::Session(cookie.expose_str().unwrap());
        self.access.authenticate(presented).await.unwrap().is_some()
    }
}

fn from(address: &str) -> ClientInfo {
    ClientInfo { address: address.parse::<IpAddr>().ok(), ..ClientInfo::default() }
}

#[tokio::test]
async fn a_code_works_once_and_only_until_its_end() {
    let fixture = fixture().await;
    let made = fixture.access.tenant_create("acme", "Acme", "ana@acme.test", "Ana").await.unwrap();
    let code = made.setup_code.expose_str().unwrap();
    assert_eq!(fixture.access.code_find(code).await.unwrap().unwrap().email, "ana@acme.test");
    let accept = |password: &'static str| {
        let access = fixture.access.clone();
        let code = code.to_owned();
        async move { access.code_accept(&code, None, &secret(password), &ClientInfo::default()).await }
    };
    assert!(matches!(accept("short").await, Err(Error::Invalid(InvalidField { field: "password", .. }))));
    let (one, two) = tokio::join!(accept(PASSWORD), accept("another long password"));
    assert_eq!(usize::from(one.is_ok()) + usize::from(two.is_ok()), 1, "exactly one may use the code");
    assert!(matches!(accept(PASSWORD).await, Err(Error::CodeExpired)));
    assert!(fixture.access.code_find(code).await.unwrap().is_none());

    let late = fixture.access.setup_code(made.tenant, made.owner).await.unwrap();
    fixture.clock.advance(Duration::from_secs(3_600));
    let late = late.expose_str().unwrap();
    assert!(fixture.access.code_find(late).await.unwrap().is_none());
    let refused = fixture.access.code_accept(late, None, &secret(PASSWORD), &ClientInfo::default()).await;
    assert!(matches!(refused, Err(Error::CodeExpired)));
}

#[tokio::test]
async fn sign_in_names_the_tenant_only_where_it_must() {
    let fixture = fixture().await;
    let one = fixture.tenant("one").await;
    assert_eq!(fixture.try_sign_in(PASSWORD, &from("192.0.2.1")).await.unwrap().user, one.owner);
    assert!(matches!(fixture.try_sign_in("wrong password", &from("192.0.2.1")).await, Err(Error::WrongPassword)));
    let two = fixture.tenant("two").await;
    assert!(matches!(fixture.try_sign_in(PASSWORD, &from("192.0.2.1")).await, Err(Error::AmbiguousTenant)));
    // A wrong password does not tell that several tenants know the e-mail.
    assert!(matches!(fixture.try_sign_in("wrong password", &from("192.0.2.1")).await, Err(Error::WrongPassword)));
    let password = secret(PASSWORD);
    let named = SignIn { tenant: Some("two"), email: "ana@acme.test", password: &password };
    assert_eq!(fixture.access.sign_in(named, &from("192.0.2.1")).await.unwrap().user, two.owner);
    let unknown = SignIn { tenant: Some("three"), email: "ana@acme.test", password: &password };
    assert!(matches!(fixture.access.sign_in(unknown, &from("192.0.2.1")).await, Err(Error::WrongPassword)));
}

#[tokio::test]
async fn s13_a_flood_of_tries_locks_strangers_out_and_not_the_owner() {
    let fixture = fixture().await;
    fixture.tenant("acme").await;
    let own = fixture.try_sign_in(PASSWORD, &from("192.0.2.1")).await.unwrap();
    let device = own.device.unwrap();
    let mut refused = 0;
    for host in 1..=8 {
        for _ in 0..12 {
            match fixture.try_sign_in("wrong password", &from(&format!("203.0.113.{host}"))).await {
                Err(Error::WrongPassword) => refused += 1,
                Err(Error::TooManyAttempts { retry_after_seconds }) => {
                    assert!((1..=300).contains(&retry_after_seconds))
                }
                Err(other) => panic!("{other:?}"),
                Ok(_) => panic!("a wrong password signed in"),
            }
        }
    }
    // A window may end while the test runs, so that at most two windows' worth is let through.
    assert!((40..=100).contains(&refused), "{refused}");
    let stranger = fixture.try_sign_in(PASSWORD, &from("198.51.100.9")).await;
    assert!(refused > 50 || matches!(stranger, Err(Error::TooManyAttempts { .. })));
    let owner = ClientInfo { device: Some(device), ..from("198.51.100.9") };
    fixture.try_sign_in(PASSWORD, &owner).await.unwrap();
    let forged = ClientInfo { device: Some("nonce.mac".to_owned()), ..from("203.0.113.1") };
    assert!(refused > 50 || matches!(fixture.try_sign_in(PASSWORD, &forged).await, Err(Error::TooManyAttempts { .. })));
}

#[tokio::test]
async fn l114_a_device_of_one_tenants_account_opens_no_others() {
    let fixture = fixture().await;
    fixture.tenant("acme").await;
    let other = fixture.tenant("evilco").await;
    let theirs = secret("their own password");
    fixture.access.password_set(other.tenant, other.owner, &theirs).await.unwrap();
    let own = SignIn { tenant: Some("evilco"), email: "ana@acme.test", password: &theirs };
    let device = fixture.access.sign_in(own, &from("203.0.113.1")).await.unwrap().device;
    let clients = (1..=8).map(|host| ClientInfo { device: device.clone(), ..from(&format!("203.0.113.{host}")) });
    for client in clients {
        for _ in 0..12 {
            assert!(fixture.try_sign_in("wrong password", &client).await.is_err());
        }
    }
    // Nobody gets another guess at the account of the other tenant, whatever account of this name knows the browser.
    let known = ClientInfo { device, ..from("198.51.100.9") };
    let guessed = fixture.try_sign_in(PASSWORD, &known).await;
    assert!(matches!(guessed, Err(Error::TooManyAttempts { .. })), "{:?}", guessed.is_ok());
    fixture.clock.advance(Duration::from_secs(600));
    assert!(fixture.try_sign_in(PASSWORD, &known).await.is_ok(), "with time it can be tried again");
}

#[tokio::test]
async fn a_sign_in_replaces_the_session_and_idleness_ends_it() {
    let fixture = fixture().await;
    let made = fixture.tenant("acme").await;
    let first = fixture.try_sign_in(PASSWORD, &from("192.0.2.1")).await.unwrap();
    assert!(fixture.known(&first.cookie).await);
    let replaces = first.cookie.expose_str().map(str::to_owned);
    let second = fixture.try_sign_in(PASSWORD, &ClientInfo { replaces, ..from("192.0.2.1") }).await.unwrap();
    assert!(!fixture.known(&first.cookie).await, "the old session's id must not go on");
    assert!(fixture.known(&second.cookie).await);
    assert_eq!(fixture.access.sessions(made.tenant, made.owner).await.unwrap().len(), 1);
    fixture.clock.advance(Duration::from_secs(12 * 3_600 - 60));
    assert!(fixture.known(&second.cookie).await, "twelve hours are not yet idle");
    fixture.clock.advance(Duration::from_secs(12 * 3_600 - 60));
    assert!(fixture.known(&second.cookie).await, "its use was noted");
    fixture.clock.advance(Duration::from_secs(12 * 3_600 + 1));
    assert!(!fixture.known(&second.cookie).await);
    assert!(fixture.access.sessions(made.tenant, made.owner).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_new_password_ends_every_session() {
    let fixture = fixture().await;
    let made = fixture.tenant("acme").await;
    let session = fixture.try_sign_in(PASSWORD, &from("192.0.2.1")).await.unwrap();
    fixture.access.password_set(made.tenant, made.owner, &secret("a wholly new password")).await.unwrap();
    assert!(!fixture.known(&session.cookie).await);
    assert!(matches!(fixture.try_sign_in(PASSWORD, &from("192.0.2.1")).await, Err(Error::WrongPassword)));
}

#[tokio::test]
async fn two_owners_cannot_demote_each_other_at_once() {
    let fixture = fixture().await;
    let made = fixture.tenant("acme").await;
    let other = fixture.access.user_create(made.tenant, made.owner, "ben@acme.test", "Ben", Role::Owner).await.unwrap();
    let now = fixture.access.now();
    let demote = |by: UserId, target: UserId| {
        let access = fixture.access.clone();
        let change = UserUpdate { role: Some(Role::Member), ..UserUpdate::default() };
        async move {
            let session = access.session_create(made.tenant, by, "tests").await.unwrap().session;
            let auth = AuthMethod::Session { id: session, signed_in_at: now };
            let by = Principal { tenant: made.tenant, identity: Identity::User { id: by, role: Role::Owner }, auth };
            access.user_update(&by, target, change).await
        }
    };
    // Ben has not accepted, so he is no owner who could sign in.
    assert!(matches!(demote(other, made.owner).await, Err(Error::LastOwner)));
    fixture.access.password_set(made.tenant, other, &secret(PASSWORD)).await.unwrap();
    let (one, two) = tokio::join!(demote(made.owner, other), demote(other, made.owner));
    assert_eq!(usize::from(one.is_ok()) + usize::from(two.is_ok()), 1);
}

#[tokio::test]
async fn an_e_mail_is_one_person_of_a_tenant_however_it_is_spelled() {
    let fixture = fixture().await;
    let made = fixture.tenant("acme").await;
    let again = fixture.access.user_create(made.tenant, made.owner, "ANA@acme.test", "Ana", Role::Member).await;
    assert!(matches!(again, Err(Error::EmailTaken)));
    let slug = fixture.access.tenant_create("acme", "Acme", "x@y.test", "X").await;
    assert!(matches!(slug, Err(Error::SlugTaken)));
}
