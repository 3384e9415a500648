//! Raw TCP listeners: the bytes of the stream, no word of HTTP. With `gdppay` at the pipeline's end this is what
//! `tcpclientsrc ! gdpdepay` expects of a `tcpserversink`.

use std::sync::Arc;

use super::Station;
use crate::door::bound::TakeRaw;
use crate::door::patrol::Patrol;
use crate::engine::inbox::Command;
use crate::engine::listener::Arrival;
use crate::mount::Registry;
use crate::units::MountPath;

/// What becomes of a connection to one of a mount's raw ports. Who is not let in is closed: there is no word for a refusal. The mount
/// is looked up for each: it may have other settings by now, or be gone.
pub fn take(registry: &Arc<Registry>, patrol: &Arc<Patrol>, mount: &MountPath) -> TakeRaw {
    let (registry, patrol, mount) = (Arc::clone(registry), Arc::clone(patrol), mount.clone());
    Box::new(move |wire, peer, accepted, hold| {
        let Some(asked) = registry.find(mount.as_str()) else { return };
        let mut turned = None;
        let mut stations = super::stations(&registry, &asked.handle.settings, Some(&asked));
        let place = stations.find_map(|station| {
            if !station.when.admits(turned) {
                return None;
            }
            let place = super::admit(&registry, &patrol, &station.entry, peer, None);
            place.map(|place| (place, station)).map_err(|why| turned = Some(why)).ok()
        });
        let Some(((permit, mut seat), Station { entry: mount, trail, .. })) = place else {
            return turned.iter().for_each(|turned| registry.refuse(Some(&asked), turned.why));
        };
        seat.hold(hold);
        permit.send(Command::Join(Box::new(Arrival {
            wire,
            broadcast: Arc::clone(&mount.handle.broadcast),
            head: Box::default(),
            wish: None,
            placed: None,
            inlay: None,
            id: registry.next_listener(),
            peer,
            user_agent: "raw tcp".into(),
            pass: None,
            trail,
            intro: mount.handle.intro_for(None),
            accepted,
            seat,
        })));
    })
}
