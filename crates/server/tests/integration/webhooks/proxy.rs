//! Whose word about the sender's address counts.

use serde_json::json;

use super::Fixture;
use crate::harness::TestApp;

async fn fixture(trusted_proxies: &str) -> Fixture {
    let networks = json!({ "allowed_cidrs": ["203.0.113.0/24"] });
    Fixture::over(TestApp::behind(trusted_proxies).await, "bearer", networks).await
}

async fn status(fixture: &Fixture, forwarded: &[&str]) -> u16 {
    let mut request = fixture.request("{}").bearer_auth(&fixture.secret);
    for value in forwarded {
        request = request.header("x-forwarded-for", *value);
    }
    fixture.send(request).await.status
}

#[tokio::test]
async fn l68_only_trusted_proxies_may_say_where_a_request_comes_from() {
    let alone = fixture("").await;
    for forwarded in [&[][..], &["203.0.113.7"], &["203.0.113.7, 127.0.0.1"]] {
        assert_eq!(status(&alone, forwarded).await, 403, "{forwarded:?} from a stranger says nothing");
    }
    let elsewhere = fixture("10.0.0.0/8").await;
    assert_eq!(status(&elsewhere, &["203.0.113.7"]).await, 403, "from another address than the proxy's");
    let behind = fixture("127.0.0.1/32,10.0.0.0/8").await;
    for (forwarded, expected) in [
        (&[][..], 403),
        (&["203.0.113.7"], 202),
        (&["203.0.113.7:4711"], 202),
        (&["198.51.100.1, 203.0.113.7"], 202),
        (&["198.51.100.1", "203.0.113.7, 10.1.2.3"], 202),
        // What a sender writes itself stands to the left of what the proxy saw.
        (&["203.0.113.7, 198.51.100.1"], 403),
        (&["203.0.113.7", "198.51.100.1"], 403),
        (&["203.0.113.7, nonsense"], 403),
        (&["nonsense"], 403),
    ] {
        assert_eq!(status(&behind, forwarded).await, expected, "{forwarded:?}");
    }
}

#[tokio::test]
async fn l68_a_stranger_cannot_walk_around_the_throttle_by_a_header() {
    for (trusted, expected) in [("", 429), ("127.0.0.1/32", 401)] {
        let app = TestApp::behind(trusted).await;
        app.begin_window(300);
        let mut last = 0;
        for number in 0..11 {
            let body = json!({ "email": "owner@acme.test", "password": "not-the-password" });
            let request = app.anonymous().request("POST", "/v1/sessions").header("content-type", "application/json");
            let request = request.header("x-forwarded-for", format!("203.0.113.{number}")).body(body.to_string());
            last = app.anonymous().send(request).await.status;
        }
        assert_eq!(last, expected, "{trusted:?}");
    }
}
