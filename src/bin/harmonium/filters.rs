//! `harmonium filters`.

use crate::{Failure, arguments::Filters, console, data};
use harmonium::{Error, model, raster};

pub fn run(options: &Filters) -> Result<(), Failure> {
    let rbm = data::pictured_part(&model::load(&options.model)?)?;
    let (down, across) = options.tile;
    let sides = data::sides(options.image, None, rbm.shape().n_visible())?;
    let picture = raster::filters(rbm.view(), sides, (down, across)).map_err(|problem| match problem {
        Error::Argument { what: "picture", expected, found } => Error::Argument { what: "--tile", expected, found },
        other => other,
    })?;
    raster::write_png(&picture, &options.out)?;
    let (file, n_hidden) = (options.out.display(), rbm.shape().n_hidden());
    let (shown, height, width) = (down.saturating_mul(across).min(n_hidden), picture.height(), picture.width());
    console::say(&format!("{file}: {shown} of {n_hidden} filters, {height} × {width} pixels"));
    Ok(())
}
