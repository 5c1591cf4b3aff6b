//! Offers and inverse offers that are out.

use std::sync::Arc;

use mezzo_master_core::OfferNews;
use mezzo_proto::v1;
use mezzo_types::{FrameworkId, OfferId};

use super::State;
use crate::view::role::Way;
use crate::view::small::OfferEntry;

impl State {
    pub(super) fn put_offer(&mut self, offer: OfferNews) {
        self.remove_offer(&offer.id);
        let entry = Arc::new(OfferEntry(offer));
        let OfferEntry(offer) = &*entry;
        let Some(framework) = self.framework_mut(&offer.framework) else { return };
        framework.offered.add(&offer.resources);
        let at = framework.offers.push(Arc::clone(&entry));
        self.offers.insert(offer.id.clone(), (offer.framework.clone(), at));
        self.roles.offered(&offer.resources, Way::Add);
        self.load(&offer.agent, |load| load.offered.add(&offer.resources));
    }

    pub(super) fn remove_offer(&mut self, id: &OfferId) {
        let Some((framework, at)) = self.offers.remove(id) else { return };
        let Some(entry) = self.framework_mut(&framework) else { return };
        let Some(offer) = entry.offers.swap_remove(at) else { return };
        let OfferEntry(offer) = &*offer;
        entry.offered.subtract(&offer.resources);
        let moved = entry.offers.get(at).map(Arc::clone);
        if let Some((_, of_moved)) = moved.and_then(|moved| self.offers.get_mut(&moved.0.id)) {
            *of_moved = at;
        }
        self.roles.offered(&offer.resources, Way::Subtract);
        self.load(&offer.agent, |load| load.offered.subtract(&offer.resources));
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
