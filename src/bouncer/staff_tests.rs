//! The staff at a mount whose rule is decided by nobody, so that whoever is let in is so for what it is.

use super::*;
use crate::access::network::Networks;
use crate::access::rule::{OnError, Rule, Shown, UrlAuth};
use crate::access::{Password, Secret};
use crate::bouncer::{Bouncer, Visitor};

/// Nobody listens there.
fn rule() -> Rule {
    Rule::Url(Arc::new(UrlAuth {
        url: "http://127.0.0.1:1/".into(),
        remove_url: None,
        timeout: std::time::Duration::from_millis(200),
        on_error: OnError::Deny,
        auth_header: UrlAuth::AUTH_HEADER.into(),
        timelimit_header: UrlAuth::TIMELIMIT_HEADER.into(),
        headers: Vec::new(),
        header_prefix: "".into(),
        login: None,
    }))
}

fn names(relay: Option<&str>) -> Names {
    let role = |user: &str, password: Option<&str>| Role {
        user: user.into(),
        password: password.map(|password| Password::plain(password).expect("a password")),
    };
    Names { operator: role("admin", Some("s3cret")), relay: role("relay", relay) }
}

/// What a visitor came as: the name, and the name that is counted.
type Came = (Option<Arc<str>>, Option<Arc<str>>);

/// What becomes of somebody at this address.
async fn asks(bouncer: &Bouncer, last: u8, user: &str, password: &str) -> Result<Came, Turned> {
    asks_at(bouncer, &rule(), last, user, password).await
}

async fn asks_at(bouncer: &Bouncer, rule: &Rule, last: u8, user: &str, password: &str) -> Result<Came, Turned> {
    let shown = Shown { credentials: Some(Credentials { user: user.into(), password: Secret::new(password) }), ..Shown::default() };
    let visitor = Visitor { number: 7, mount: "/a", query: "", address: Some([192, 0, 2, last].into()), agent: "flumen", shown: &shown };
    bouncer.admit(rule, &visitor).await.map(|pass| (pass.user.clone(), pass.counted()))
}

#[actix_web::test]
async fn the_staff_is_let_in_and_no_rule_is_asked_about_it() {
    let bouncer = Bouncer::default();
    let unknown = Err(Turned::Unknown("who may listen cannot be found out at present"));
    assert_eq!(asks(&bouncer, 1, "relay", "r3lay").await, unknown, "nobody is of the staff yet");
    bouncer.staff.settle(names(Some("r3lay")));
    let wrong = Err(Turned::Away { could_help: true, message: Some("the password of the relay is wrong".to_owned()) });
    let came = |name: &str| Ok((Some(Arc::from(name)), None)); // known by name, and not counted by it
    for (user, password, want) in [
        ("relay", "r3lay", came("relay")),
        ("relay", "s3cret", wrong.clone()),
        ("relay", "", wrong),
        ("admin", "s3cret", came("admin")),
        ("admin", "r3lay", unknown.clone()), // a listener may have that name
        ("anna", "r3lay", unknown.clone()),
        ("", "r3lay", unknown.clone()),
    ] {
        assert_eq!(asks(&bouncer, 1, user, password).await, want, "{user} {password}");
    }
    bouncer.staff.settle(names(None));
    assert_eq!(asks(&bouncer, 1, "relay", "r3lay").await, unknown, "without a password there is no relay");
    assert_eq!(asks(&bouncer, 1, "relay", "").await, unknown);
}

#[actix_web::test]
async fn who_guesses_a_password_of_the_staff_waits_wherever_it_is_tried_next() {
    let bouncer = Bouncer::default();
    bouncer.staff.settle(names(Some("r3lay")));
    for guess in 0..5 {
        let turned = asks(&bouncer, 1, "relay", &format!("guess {guess}")).await;
        assert!(matches!(turned, Err(Turned::Away { .. })), "{turned:?}");
    }
    assert!(matches!(asks(&bouncer, 1, "relay", "r3lay").await, Err(Turned::Throttled(_))), "not even the right one is looked at");
    let (relay, given) = (names(Some("r3lay")).relay, Credentials { user: "relay".into(), password: Secret::new("r3lay") });
    let accepted = [relay.of(&given).expect("the name")];
    let found = bouncer.staff.keys.check(Some([192, 0, 2, 1].into()), Aim::Relay, &given, &accepted).await;
    assert!(matches!(found, Err(Denied::Wait(_))), "the list of mounts is asked for in the same place: {found:?}");
    assert!(asks(&bouncer, 1, "admin", "s3cret").await.is_ok(), "the operator behind the same address does not wait");
    assert!(asks(&bouncer, 2, "relay", "r3lay").await.is_ok(), "nobody else waits");
}

#[actix_web::test]
async fn a_listener_with_the_operators_name_locks_nobody_of_the_staff_out_and_gains_no_guess() {
    let bouncer = Bouncer::default();
    bouncer.staff.settle(names(Some("r3lay")));
    let open = Rule::Deny(Networks::new(Vec::new())); // whoever comes, whatever the password
    for round in 0..20 {
        assert!(asks_at(&bouncer, &open, 1, "admin", "of her own").await.is_ok(), "{round}");
    }
    assert!(asks(&bouncer, 1, "admin", "s3cret").await.is_ok(), "the operator behind the same address");
    assert!(asks(&bouncer, 1, "relay", "r3lay").await.is_ok());
    let mut guessed = 0;
    for guess in 0..20 {
        guessed += usize::from(asks_at(&bouncer, &open, 2, "admin", &format!("guess {guess}")).await.is_ok());
    }
    assert_eq!(guessed, 5, "another password each time is a guess, whoever lets it in");
    bouncer.staff.settle(Names { operator: Role { password: Password::plain("of her own").ok(), ..names(None).operator }, ..names(None) });
    assert_eq!(asks(&bouncer, 1, "admin", "of her own").await, Ok((Some("admin".into()), None)), "now it is the operator's");
}

#[actix_web::test]
async fn no_backend_is_shown_a_password_of_the_operators_name_that_was_not_looked_at() {
    let bouncer = Bouncer::default();
    bouncer.staff.settle(names(None));
    for guess in 0..5 {
        let _ = asks(&bouncer, 1, "admin", &format!("guess {guess}")).await;
    }
    let asked = || bouncer.asked().all().iter().map(|(_, count)| *count).sum::<u64>();
    let before = asked();
    assert!(before > 0, "the backend was asked about the wrong ones");
    assert!(matches!(asks(&bouncer, 1, "admin", "s3cret").await, Err(Turned::Throttled(_))));
    assert_eq!(asked(), before);
}

#[actix_web::test]
async fn what_a_relay_was_let_in_with_is_the_same_in_the_next_process() {
    let bouncer = Bouncer::default();
    let pass = pass(&Credentials { user: "relay".into(), password: Secret::new("r3lay") });
    let unpacked = bouncer.unpack(&pass.pack());
    assert_eq!((unpacked.user.as_deref(), unpacked.counted()), (Some("relay"), None));
    let listener = Pass { user: Some("anna".into()), ..Pass::default() };
    assert_eq!(bouncer.unpack(&listener.pack()).counted().as_deref(), Some("anna"));
}
