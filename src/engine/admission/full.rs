//! Why there is no place: what there is no more of, where, and how that is said.

/// What a room has no more of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    /// Places.
    Places,
    /// Places for this address.
    Address,
    /// Places for this user.
    User,
    /// Bandwidth.
    Bandwidth,
    /// Time: too many join at once.
    Time,
}

/// Which room it is that has no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// The server.
    Server,
    /// The mount.
    Mount,
    /// The group of addresses that the newcomer's is in.
    Group,
}

/// Why there is no seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full {
    /// Where.
    pub room: Room,
    /// Of what.
    pub lack: Lack,
}

impl Full {
    /// In a sentence, for whoever is turned away.
    pub fn sentence(self) -> &'static str {
        match (self.lack, self.room) {
            (Lack::Places, Room::Server) => "there is no place left on this server (max_listeners)",
            (Lack::Places, Room::Mount) => "there is no place left on this mount (max_listeners)",
            (Lack::Places | Lack::Address | Lack::User | Lack::Bandwidth | Lack::Time, Room::Group) => {
                "there is no place left for listeners from where you are (max_listeners of an address_group)"
            }
            (Lack::Address, Room::Server) => {
                "there are as many listeners from your address as this server takes (max_listeners_per_address)"
            }
            (Lack::Address, Room::Mount) => "there are as many listeners from your address as this mount takes (max_listeners_per_address)",
            (Lack::User, Room::Server) => "you listen as often as this server allows (max_listeners_per_user)",
            (Lack::User, Room::Mount) => "you listen as often as this mount allows (max_listeners_per_user)",
            (Lack::Bandwidth, Room::Server) => "this server sends as much as it may (max_bandwidth)",
            (Lack::Bandwidth, Room::Mount) => "this mount sends as much as it may (max_bandwidth)",
            (Lack::Time, Room::Server) => "too many join this server at once (max_join_rate)",
            (Lack::Time, Room::Mount) => "too many join this mount at once (max_join_rate)",
        }
    }
}
