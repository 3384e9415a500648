//! Who may listen: rules, and what follows from what is known so far.
//!
//! ```text
//!   judge(rule, answers) ─▶ settled        or ─▶ ask this leaf first, and come again
//! ```
//! - A leaf that nobody could answer (its backend is down) is unknown, and so is what follows from it: `not` makes no grant of a
//!   failure.
//! - What takes time is asked for only if the rest does not decide without it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::network::Networks;
use super::pattern::Pattern;
use super::{Credentials, Secret};

/// What somebody is granted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grant {
    /// Who it is, if that is known.
    pub user: Option<Arc<str>>,
    /// How long it holds; `None`: for ever.
    pub lasts: Option<Duration>,
}

impl Grant {
    /// For so many seconds.
    pub fn until(user: Option<&str>, seconds: u64) -> Self {
        Self { user: user.map(Into::into), lasts: Some(Duration::from_secs(seconds)) }
    }

    /// To this user.
    pub fn to(user: &str) -> Self {
        Self { user: Some(user.into()), lasts: None }
    }

    /// Both: the first name that is known, until the first of them ends.
    fn and(self, other: Self) -> Self {
        let lasts = match (self.lasts, other.lasts) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        Self { user: self.user.or(other.user), lasts }
    }
}

/// What is said to somebody, by a leaf or by a whole rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Yes.
    Granted(Grant),
    /// No.
    Refused,
    /// Nobody could say.
    Unknown,
}

/// What happens when a backend does not answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnError {
    /// Nobody is let in by it.
    #[default]
    Deny,
    /// Everybody is.
    Allow,
}

/// A program elsewhere that is asked, as Icecast's URL authentication does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UrlAuth {
    /// Where it is asked.
    pub url: Arc<str>,
    /// Where it is told that somebody has left; `None`: nowhere.
    pub remove_url: Option<Arc<str>>,
    /// The longest that an answer may take, the wait for a turn included.
    pub timeout: Duration,
    /// What happens when there is none.
    pub on_error: OnError,
    /// The header field that says yes, as `name: value`.
    pub auth_header: Arc<str>,
    /// The header field that says for how many seconds.
    pub timelimit_header: Arc<str>,
    /// Header fields of a listener's request that it is told as well.
    pub headers: Vec<Box<str>>,
    /// What is put before the names of those.
    pub header_prefix: Box<str>,
    /// What the server logs in with there; `None`: with what the listener gave.
    pub login: Option<Credentials>,
}

impl UrlAuth {
    /// The header field that says yes, in Icecast's words.
    pub const AUTH_HEADER: &str = "icecast-auth-user: 1";
    /// The header field that says for how long, in Icecast's words.
    pub const TIMELIMIT_HEADER: &str = "icecast-auth-timelimit";
}

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rule {
    /// One of these.
    Any(Vec<Rule>),
    /// All of these.
    All(Vec<Rule>),
    /// Not that.
    Not(Box<Rule>),
    /// Whoever is in these networks.
    Allow(Networks),
    /// Whoever is not in these networks.
    Deny(Networks),
    /// Whoever says it is something like this.
    Agent(Vec<Pattern>),
    /// Whoever is in this file of users, and knows the password.
    Htpasswd(PathBuf),
    /// Whoever another program says.
    Url(Arc<UrlAuth>),
    /// Whoever has an address that is signed with a secret of this file.
    Signed(PathBuf),
    /// Whoever has a token that is signed with a key of this file.
    Jwt {
        /// The file.
        keys: PathBuf,
        /// What we are called in tokens.
        audience: Option<Arc<str>>,
    },
}

/// What follows from what is known so far.
#[derive(Debug, PartialEq, Eq)]
pub enum Judgment<'r> {
    /// This, whatever else would be said.
    Settled(Verdict),
    /// Nothing yet: this leaf has to be asked, the one with this number.
    Ask(usize, &'r Rule),
}

impl Rule {
    /// How many leaves a rule may have.
    pub const LEAVES_MOST: usize = 32;
    /// How deep it may be.
    pub const DEEPEST: usize = 8;

    /// The leaves, in the order of their numbers.
    pub fn leaves(&self) -> Vec<&Self> {
        match self {
            Self::Any(rules) | Self::All(rules) => rules.iter().flat_map(Self::leaves).collect(),
            Self::Not(rule) => rule.leaves(),
            leaf => vec![leaf],
        }
    }

    /// Whether a user and a password could help.
    pub fn takes_password(&self) -> bool {
        self.leaves().iter().any(|leaf| leaf.is_about_password())
    }

    fn is_about_password(&self) -> bool {
        matches!(self, Self::Htpasswd(_) | Self::Url(_))
    }

    /// What follows from these answers of leaves, by their numbers.
    pub fn judge(&self, answers: &[Option<Verdict>]) -> Judgment<'_> {
        self.follow(&mut 0, &|number, _| answers.get(number).cloned().flatten())
    }

    /// Whether another password could have led to another end than this.
    pub fn could_help(&self, answers: &[Option<Verdict>]) -> bool {
        let hopeful = self.follow(&mut 0, &|number, leaf| {
            if leaf.is_about_password() { Some(Verdict::Granted(Grant::default())) } else { answers.get(number).cloned().flatten() }
        });
        self.takes_password() && !matches!(hopeful, Judgment::Settled(Verdict::Refused | Verdict::Unknown))
    }

    fn follow(&self, number: &mut usize, answer: &impl Fn(usize, &Self) -> Option<Verdict>) -> Judgment<'_> {
        use Judgment::{Ask, Settled};
        use Verdict::{Granted, Refused};
        match self {
            Self::Not(rule) => match rule.follow(number, answer) {
                Settled(Granted(_)) => Settled(Refused),
                Settled(Refused) => Settled(Granted(Grant::default())),
                other => other,
            },
            Self::Any(rules) => {
                let all: Vec<_> = rules.iter().map(|rule| rule.follow(number, answer)).collect();
                first(all, |judgment| matches!(judgment, Settled(Granted(_)))).unwrap_or(Settled(Refused))
            }
            Self::All(rules) => {
                let all: Vec<_> = rules.iter().map(|rule| rule.follow(number, answer)).collect();
                let granted =
                    all.iter().filter_map(|judgment| if let Settled(Granted(grant)) = judgment { Some(grant.clone()) } else { None });
                let granted = granted.fold(Grant::default(), Grant::and);
                first(all, |judgment| matches!(judgment, Settled(Refused))).unwrap_or(Settled(Granted(granted)))
            }
            leaf => {
                let mine = *number;
                *number += 1;
                answer(mine, leaf).map_or(Ask(mine, leaf), Settled)
            }
        }
    }
}

/// The judgment that decides; else the first that has to be asked for; else one that nobody could give.
fn first<'r>(all: Vec<Judgment<'r>>, decides: impl Fn(&Judgment<'r>) -> bool) -> Option<Judgment<'r>> {
    let rank = |judgment: &Judgment<'r>| match judgment {
        decisive if decides(decisive) => 0,
        Judgment::Ask(..) => 1,
        Judgment::Settled(Verdict::Unknown) => 2,
        Judgment::Settled(_) => 3,
    };
    all.into_iter().min_by_key(rank).filter(|judgment| rank(judgment) < 3)
}

/// What a request shows of who sends it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// User and password.
    pub credentials: Option<Credentials>,
    /// A token.
    pub token: Option<Secret>,
    /// Header fields that a backend wants to know of, by the names it has for them.
    pub fields: Vec<(Box<str>, String)>,
}

impl Shown {
    /// Reads the value of an `Authorization` field, if there is one, and the query.
    pub fn of(authorization: Option<&str>, query: &str) -> Self {
        let bearer = authorization.and_then(|field| {
            let (scheme, token) = field.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
        });
        let token = bearer.map(Secret::new).or_else(|| super::query::parameter(query, "token").map(|token| Secret::new(&token)));
        Self { credentials: authorization.and_then(super::basic), token, fields: Vec::new() }
    }

    /// The same with what the request has of the header fields that the backends of a rule want to know of.
    #[must_use]
    pub fn with_fields<'v>(mut self, rule: &Rule, field: impl Fn(&str) -> Option<&'v str>) -> Self {
        for leaf in rule.leaves() {
            let Rule::Url(backend) = leaf else { continue };
            for name in &backend.headers {
                if let Some(value) = field(name).filter(|_| !self.fields.iter().any(|(known, _)| known == name)) {
                    self.fields.push((name.clone(), value.to_owned()));
                }
            }
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn leaf() -> Rule {
        Rule::Htpasswd("users".into())
    }

    fn place() -> Rule {
        Rule::Allow(Networks::default())
    }

    fn granted(user: &str) -> Option<Verdict> {
        Some(Verdict::Granted(Grant::to(user)))
    }

    /// `+` granted, `-` refused, `?` unknown, `.` not asked yet; and what follows: the same, or the number of the leaf to ask.
    fn judged(rule: &Rule, answers: &str) -> String {
        let answers: Vec<_> = answers
            .chars()
            .map(|c| match c {
                '+' => granted("anna"),
                '-' => Some(Verdict::Refused),
                '?' => Some(Verdict::Unknown),
                _ => None,
            })
            .collect();
        match rule.judge(&answers) {
            Judgment::Settled(Verdict::Granted(_)) => "+".to_owned(),
            Judgment::Settled(Verdict::Refused) => "-".to_owned(),
            Judgment::Settled(Verdict::Unknown) => "?".to_owned(),
            Judgment::Ask(number, _) => number.to_string(),
        }
    }

    #[test]
    fn what_is_known_decides_and_only_what_can_still_decide_is_asked() {
        let (any, all) = (Rule::Any(vec![leaf(), leaf()]), Rule::All(vec![leaf(), leaf()]));
        let not = Rule::Not(Box::new(leaf()));
        let mixed = Rule::All(vec![Rule::Any(vec![leaf(), leaf()]), Rule::Not(Box::new(leaf()))]);
        for (rule, answers, want) in [
            (&leaf(), ".", "0"),
            (&leaf(), "+", "+"),
            (&leaf(), "?", "?"),
            (&any, "..", "0"),
            (&any, "-.", "1"),
            (&any, ".+", "+"),
            (&any, ".-", "0"),
            (&any, "--", "-"),
            (&any, "?-", "?"),
            (&any, "?+", "+"),
            (&any, "?.", "1"),
            (&all, "..", "0"),
            (&all, "+.", "1"),
            (&all, ".-", "-"),
            (&all, "++", "+"),
            (&all, "+?", "?"),
            (&all, "?-", "-"),
            (&all, "?.", "1"),
            (&not, "+", "-"),
            (&not, "-", "+"),
            (&not, "?", "?"),
            (&not, ".", "0"),
            (&mixed, "..+", "-"),
            (&mixed, "+.-", "+"),
            (&mixed, "+..", "2"),
            (&mixed, "-?-", "?"),
            (&mixed, "+.?", "?"),
        ] {
            assert_eq!(judged(rule, answers), want, "{rule:?} {answers}");
        }
    }

    #[test]
    fn all_that_is_granted_holds_together() {
        let all = Rule::All(vec![place(), leaf(), leaf()]);
        let grants =
            [Grant::default(), Grant::until(Some("anna"), 60), Grant { user: Some("bert".into()), lasts: Some(Duration::from_secs(5)) }];
        let answers: Vec<_> = grants.map(|grant| Some(Verdict::Granted(grant))).into();
        assert_eq!(all.judge(&answers), Judgment::Settled(Verdict::Granted(Grant::until(Some("anna"), 5))));
    }

    #[test]
    fn a_password_is_asked_for_where_one_could_help() {
        for (rule, answers, want) in [
            (leaf(), vec![Some(Verdict::Refused)], true),
            (place(), vec![Some(Verdict::Refused)], false),
            (Rule::All(vec![place(), leaf()]), vec![Some(Verdict::Refused), None], false),
            (Rule::All(vec![place(), leaf()]), vec![granted(""), Some(Verdict::Refused)], true),
            (Rule::Any(vec![place(), leaf()]), vec![Some(Verdict::Refused), Some(Verdict::Refused)], true),
            (Rule::Not(Box::new(leaf())), vec![granted("anna")], false),
        ] {
            assert_eq!(rule.could_help(&answers), want, "{rule:?}");
        }
    }

    #[test]
    fn what_a_request_shows_is_read_from_its_field_or_its_query() {
        for (field, query, user, token) in [
            (Some("Basic YW5uYTp4"), "", Some("anna"), None),
            (Some("Bearer a.b.c"), "token=d", None, Some("a.b.c")),
            (Some("bearer  a.b.c"), "", None, Some("a.b.c")),
            (None, "token=a.b.c", None, Some("a.b.c")),
            (None, "token=a&token=b", None, None),
            (Some("Basic YW5uYTp4"), "token=d", Some("anna"), Some("d")),
            (None, "", None, None),
        ] {
            let shown = Shown::of(field, query);
            let found = (shown.credentials.map(|found| found.user), shown.token.map(|token| token.reveal().to_owned()));
            assert_eq!(found, (user.map(str::to_owned), token.map(str::to_owned)), "{field:?} {query}");
        }
    }

    fn rules() -> impl Strategy<Value = Rule> {
        prop_oneof![Just(leaf()), Just(place())].prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 1..4).prop_map(Rule::Any),
                prop::collection::vec(inner.clone(), 1..4).prop_map(Rule::All),
                inner.prop_map(|rule| Rule::Not(Box::new(rule))),
            ]
        })
    }

    /// As the plain definition says, in three values, with everything known.
    fn plainly(rule: &Rule, number: &mut usize, said: &[u8]) -> u8 {
        match rule {
            Rule::Any(rules) => rules.iter().map(|rule| plainly(rule, number, said)).max().unwrap_or(0),
            Rule::All(rules) => rules.iter().map(|rule| plainly(rule, number, said)).min().unwrap_or(2),
            Rule::Not(rule) => 2 - plainly(rule, number, said),
            _ => {
                *number += 1;
                said[*number - 1]
            }
        }
    }

    proptest! {
        /// Asking for what it wants asked, one after the other, ends where knowing everything at once does, and asks nothing twice.
        #[test]
        fn asking_in_turn_ends_where_knowing_all_does(rule in rules(), said in prop::collection::vec(0_u8..3, 256)) {
            let mut answers = vec![None; rule.leaves().len()];
            let verdict = loop {
                match rule.judge(&answers) {
                    Judgment::Settled(verdict) => break verdict,
                    Judgment::Ask(number, leaf) => {
                        prop_assert_eq!(leaf, rule.leaves()[number]);
                        prop_assert!(answers[number].is_none());
                        answers[number] = Some([Verdict::Refused, Verdict::Unknown, Verdict::Granted(Grant::default())][usize::from(said[number])].clone());
                    }
                }
            };
            let want = [Verdict::Refused, Verdict::Unknown, Verdict::Granted(Grant::default())][usize::from(plainly(&rule, &mut 0, &said))].clone();
            prop_assert_eq!(verdict, want);
        }
    }
}
