//! Is it alive, is it ready: for supervisors, load balancers and Prometheus' blackbox.
//!
//! Alive means that the loops turn; a server that is not alive should be restarted. Ready means that every mount that must
//! have a source has one; a server that is not ready should get no new listeners, but restarting it helps nobody.

use actix_web::http::StatusCode;
use actix_web::web::{Data, ServiceConfig};
use actix_web::{HttpResponse, Responder};

use super::answers::{readable, text};
use super::{House, shards};

pub(super) fn routes(config: &mut ServiceConfig) {
    config.service(readable("/healthz", healthz)).service(readable("/readyz", readyz));
}

/// 200 while every shard turns, or sleeps and wakes when spoken to.
async fn healthz(house: Data<House>) -> impl Responder {
    let stuck = shards::stuck(house.registry.crew()).await;
    if stuck.is_empty() {
        return text(StatusCode::OK, "ok");
    }
    let names: Vec<_> = stuck.iter().map(usize::to_string).collect();
    text(StatusCode::SERVICE_UNAVAILABLE, &format!("these sending threads do not turn: {}", names.join(", ")))
}

/// 200 when newcomers are welcome and have something to hear.
async fn readyz(house: Data<House>) -> HttpResponse {
    let registry = &house.registry;
    if registry.draining() {
        return text(StatusCode::SERVICE_UNAVAILABLE, "draining: nobody is taken in any more");
    }
    let lacking = registry.all().into_iter().filter(|entry| entry.handle.lacks_source());
    let lacking: Vec<_> = lacking.map(|entry| entry.handle.settings.path.to_string()).collect();
    if lacking.is_empty() {
        return text(StatusCode::OK, "ready");
    }
    text(StatusCode::SERVICE_UNAVAILABLE, &format!("these mounts have no source: {}", lacking.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::super::testing::Town;

    #[test]
    fn alive_while_the_loops_turn_and_no_longer() {
        let town = Town::with(&["/a.mp3"]);
        assert_eq!(town.get("/healthz"), (200, "ok\n".into()));
        town.registry().crew().stop();
        let (status, body) = town.get("/healthz");
        assert_eq!((status, body.as_str()), (503, "these sending threads do not turn: 0, 1\n"));
    }

    #[test]
    fn ready_when_each_mount_that_must_have_a_source_has_one() {
        let town = Town::with(&["/a.mp3", "/b.mp3"]);
        assert_eq!(town.get("/readyz"), (503, "these mounts have no source: /a.mp3, /b.mp3\n".into()));
        town.on_air("/a.mp3", "audio/mpeg");
        assert_eq!(town.get("/readyz"), (503, "these mounts have no source: /b.mp3\n".into()));
        town.on_air("/b.mp3", "audio/mpeg");
        assert_eq!(town.get("/readyz"), (200, "ready\n".into()));
        town.registry().drain();
        let (status, body) = town.get("/readyz");
        assert!(status == 503 && body.contains("draining"), "{body}");
    }
}
