//! Whether somebody may listen: what the bouncer says, as an answer of HTTP.

use std::sync::Arc;

use actix_web::http::{StatusCode, header};
use actix_web::{HttpRequest, HttpResponse};

use super::peers::unmarked;
use crate::access::rule::Shown;
use crate::bouncer::{Pass, Turned, Visitor};
use crate::door::answers::{plain_builder, unavailable};
use crate::door::claim::Claim;
use crate::door::origin::user_agent;
use crate::fanout::departure::Refusal;
use crate::mount::registry::Entry;
use crate::mount::{Registry, Settings};
use crate::units::ListenerId;

/// What a browser calls the place that a name and a password are for.
const CHALLENGE: &str = "Basic realm=\"flumen\", charset=\"UTF-8\"";

/// Asks whether whoever sends this request may listen to a mount, by the number that the listener will have. `None`: everybody may.
///
/// # Errors
/// The answer that says why not.
pub(super) async fn may_listen(
    request: &HttpRequest,
    registry: &Registry,
    (settings, entry): (&Settings, Option<&Entry>),
    claim: &Claim,
    id: ListenerId,
) -> Result<Option<Arc<Pass>>, HttpResponse> {
    let Some(rule) = settings.listen_auth.as_deref() else { return Ok(None) };
    let authorization = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let query = unmarked(request.query_string());
    let field = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
    let (shown, agent) = (Shown::of(authorization, query).with_fields(rule, field), user_agent(request));
    let visitor = Visitor { number: id.0, mount: settings.path.as_str(), query, address: claim.peer().ip(), agent: &agent, shown: &shown };
    // Who hangs up while a backend thinks is not waited for, and counted out if it was counted.
    let asked = tokio::select! {
        biased;
        asked = registry.witnesses().bouncer.admit(rule, &visitor) => asked,
        () = claim.hung_up(), if !settings.rules.keep_half_closed => return Err(unavailable("you have hung up")),
    };
    asked.map(|pass| Some(Arc::new(pass))).map_err(|turned| {
        registry.refuse(entry, Refusal::Unauthorized);
        tracing::debug!(mount = %settings.path, peer = %claim.peer(), connection = claim.connection(), id = id.0, ?turned, "listener turned away");
        refusal(turned)
    })
}

fn refusal(turned: Turned) -> HttpResponse {
    match turned {
        Turned::Away { could_help: true, message } => plain_builder(StatusCode::UNAUTHORIZED)
            .insert_header((header::WWW_AUTHENTICATE, CHALLENGE))
            .body(message.unwrap_or_else(|| "to listen here you need a name and a password".into()) + "\n"),
        Turned::Away { could_help: false, message } => plain_builder(StatusCode::FORBIDDEN).body(
            message.unwrap_or_else(|| "you may not listen here: you have no token, an old one, or are where nobody may".into()) + "\n",
        ),
        Turned::Throttled(wait) => plain_builder(StatusCode::TOO_MANY_REQUESTS)
            .insert_header((header::RETRY_AFTER, (wait.as_secs() + 1).to_string()))
            .body("too many wrong passwords came from your address: wait, then try again\n"),
        Turned::Unknown(why) => unavailable(why),
    }
}
