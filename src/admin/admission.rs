//! Who may do more than look. The one place where authentication will be asked.
//!
//! Until there are passwords, an operator is somebody on this machine: a loopback address or the unix socket, and not
//! through a proxy, for a proxy on this machine speaks for the whole world.

use actix_web::HttpRequest;

use crate::door::claim::Claim;
use crate::engine::broadcast::Peer;

/// Header fields by which a proxy gives itself away.
const PROXY_FIELDS: [&str; 5] = ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via"];

/// Whether the one who asks may do what an operator does.
///
/// # Errors
/// Says why not.
pub(super) fn operator(request: &HttpRequest) -> Result<(), &'static str> {
    let local = request.conn_data::<Claim>().is_some_and(|claim| match claim.peer() {
        Peer::Inet(address) => address.ip().is_loopback(),
        Peer::Unix => true,
    });
    if !local {
        return Err("this is allowed only from the machine that the server runs on: a loopback address or its unix socket");
    }
    if PROXY_FIELDS.iter().any(|field| request.headers().contains_key(*field)) {
        return Err("this is not allowed through a proxy, for the server cannot tell who is behind it");
    }
    Ok(())
}
