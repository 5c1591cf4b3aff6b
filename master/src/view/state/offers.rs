//! Offers and inverse offers that are out.

use std::sync::Arc;

use mezzo_proto::v1;
use mezzo_types::{AgentId, FrameworkId, Resources};

use super::State;
use crate::view::role::Way;
use crate::view::small::OfferEntry;

impl State {
    pub(super) fn put_offer(&mut self, offer: v1::Offer) {
        self.remove_offer(&offer.id);
        let framework = FrameworkId::from(&offer.framework_id);
        let agent = AgentId::from(&offer.agent_id);
        let resources = Resources::from_proto(&offer.resources).unwrap_or_default();
        let offer = Arc::new(OfferEntry { offer, resources });
        let Some(entry) = self.framework_mut(&framework) else { return };
        entry.offered.add(&offer.resources);
        let at = entry.offers.push(Arc::clone(&offer));
        self.offers.insert(offer.offer.id.value.clone(), (framework, at));
        self.roles.offered(&offer.resources, Way::Add);
        self.load(&agent, |load| load.offered.add(&offer.resources));
    }

    pub(super) fn remove_offer(&mut self, id: &v1::OfferId) {
        let Some((framework, at)) = self.offers.remove(&id.value) else { return };
        let Some(entry) = self.framework_mut(&framework) else { return };
        let Some(offer) = entry.offers.swap_remove(at) else { return };
        entry.offered.subtract(&offer.resources);
        let moved = entry.offers.get(at).map(Arc::clone);
        if let Some((_, of_moved)) =
            moved.and_then(|moved| self.offers.get_mut(&moved.offer.id.value))
        {
            *of_moved = at;
        }
        self.roles.offered(&offer.resources, Way::Subtract);
        let agent = AgentId::from(&offer.offer.agent_id);
        self.load(&agent, |load| load.offered.subtract(&offer.resources));
    }

    pub(super) fn put_inverse_offer(&mut self, offer: v1::InverseOffer) {
        self.remove_inverse_offer(&offer.id);
        let framework = FrameworkId::from(&offer.framework_id);
        let id = offer.id.value.clone();
        let Some(entry) = self.framework_mut(&framework) else { return };
        let at = entry.inverse_offers.push(Arc::new(offer));
        self.inverse_offers.insert(id, (framework, at));
    }

    pub(super) fn remove_inverse_offer(&mut self, id: &v1::OfferId) {
        let Some((framework, at)) = self.inverse_offers.remove(&id.value) else { return };
        let Some(entry) = self.framework_mut(&framework) else { return };
        entry.inverse_offers.swap_remove(at);
        let moved = entry.inverse_offers.get(at).map(Arc::clone);
        if let Some((_, of_moved)) =
            moved.and_then(|moved| self.inverse_offers.get_mut(&moved.id.value))
        {
            *of_moved = at;
        }
    }
}
