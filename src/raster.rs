//! Pictures: rows of numbers as tiles, the filters of a model, sheets of samples.
//!
//! Arithmetic is in `f32`, as NumPy does it for `f32` arrays. A stretched tile is (x - min)·(1/(max - min + 1e-8)), and a
//! pixel is 255 times that, cut off to an integer: so the brightest pixel of a tile is 255 or, where rounding takes the
//! quotient just below 1, 254. Values outside of [0, 1], which only tiles that are not stretched can have, are clamped:
//! the tutorial's code wraps them around, so that the darkest and the brightest meet.

use crate::{
    error::{Error, Result},
    names::names,
    rbm::RbmRef,
};

/// Keeps the stretching of a constant image from dividing by 0.
const EPSILON: f32 = 1e-8;
/// The most pixels that a picture may have, times channels.
const MAX_VALUES: usize = 1 << 28;

/// A number of one channel of a pixel: eight bits, or `f32` within [0, 1].
pub trait Pixel: Copy + sealed::Sealed {
    /// No light, or a pixel that cannot be seen.
    const ZERO: Self;
    /// A pixel that can be seen.
    const OPAQUE: Self;
    /// From a number that is within [0, 1] where the tile is stretched.
    fn from_unit(x: f32) -> Self;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for u8 {}
    impl Sealed for f32 {}
}

impl Pixel for u8 {
    const ZERO: Self = 0;
    const OPAQUE: Self = 255;

    fn from_unit(x: f32) -> Self {
        // The conversion cuts off, clamps, and makes NaN black.
        (255.0 * x) as u8
    }
}

impl Pixel for f32 {
    const ZERO: Self = 0.0;
    const OPAQUE: Self = 1.0;

    /// x, whatever it is.
    fn from_unit(x: f32) -> Self {
        x
    }
}

/// A picture: height × width × channels, row-major, 1 channel (grey) or 4 (red, green, blue, alpha).
#[derive(Clone, Debug, PartialEq)]
pub struct Raster<T> {
    height: usize,
    width: usize,
    channels: usize,
    values: Vec<T>,
}

impl<T: Pixel> Raster<T> {
    fn new(height: Option<usize>, width: Option<usize>, channels: usize, fill: T) -> Result<Self> {
        let len = |h: usize, w: usize| h.checked_mul(w)?.checked_mul(channels).filter(|&n| n > 0 && n <= MAX_VALUES);
        let sizes = height.zip(width).and_then(|(h, w)| len(h, w).map(|n| (h, w, n)));
        let Some((height, width, n)) = sizes else {
            let text = |n: Option<usize>| n.map_or("more than can be counted".into(), |n| n.to_string());
            return Err(Error::Argument {
                what: "picture",
                expected: format!("between 1 and {MAX_VALUES} values"),
                found: format!("{} × {} pixels", text(height), text(width)),
            });
        };
        Ok(Self { height, width, channels, values: vec![fill; n] })
    }

    /// Pixels from top to bottom.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Pixels from left to right.
    pub fn width(&self) -> usize {
        self.width
    }

    /// 1 or 4.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// All numbers, height × width × channels.
    pub fn values(&self) -> &[T] {
        &self.values
    }

    /// Shows one image, height × width, with its upper left corner at `at`.
    fn draw(&mut self, image: &[f32], width: usize, at: (usize, usize), channel: usize) {
        for (y, line) in image.chunks_exact(width).enumerate() {
            let first = (at.0 + y) * self.width + at.1;
            for (x, &value) in line.iter().enumerate() {
                self.values[(first + x) * self.channels + channel] = T::from_unit(value);
            }
        }
    }
}

/// How rows become tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tiling {
    /// Height and width of the image in each row of numbers.
    pub img_shape: (usize, usize),
    /// How many tiles from top to bottom and from left to right.
    pub tile_shape: (usize, usize),
    /// Pixels between tiles, vertically and horizontally.
    pub tile_spacing: (usize, usize),
    /// Whether each tile is stretched on its own to fill [0, 1].
    pub scale_rows_to_unit_interval: bool,
}

impl Tiling {
    /// Stretched tiles without space between them.
    pub fn new(img_shape: (usize, usize), tile_shape: (usize, usize)) -> Self {
        Self { img_shape, tile_shape, tile_spacing: (0, 0), scale_rows_to_unit_interval: true }
    }

    /// The same with one pixel between tiles.
    pub fn spaced(self) -> Self {
        Self { tile_spacing: (1, 1), ..self }
    }

    /// A picture with room for the tiles: (H + Hs)·R - Hs by (W + Ws)·C - Ws.
    fn canvas<T: Pixel>(&self, channels: usize) -> Result<Raster<T>> {
        let side =
            |image: usize, tiles: usize, space: usize| image.checked_add(space)?.checked_mul(tiles)?.checked_sub(space);
        Raster::new(
            side(self.img_shape.0, self.tile_shape.0, self.tile_spacing.0),
            side(self.img_shape.1, self.tile_shape.1, self.tile_spacing.1),
            channels,
            T::ZERO,
        )
    }

    /// How many values the image in a row has.
    fn units(&self) -> Result<usize> {
        let units = self.img_shape.0.checked_mul(self.img_shape.1).filter(|&units| units > 0);
        units.ok_or_else(|| Error::Argument {
            what: "img_shape",
            expected: "at least one pixel".into(),
            found: format!("{:?}", self.img_shape),
        })
    }

    fn draw<T: Pixel>(&self, raster: &mut Raster<T>, rows: &[f32], channel: usize) -> Result<()> {
        let units = self.units()?;
        if !rows.len().is_multiple_of(units) {
            let expected = rows.len().div_ceil(units) * units;
            return Err(Error::Length { what: "rows", expected, found: rows.len() });
        }
        let ((height, width), (down, across), spacing) = (self.img_shape, self.tile_shape, self.tile_spacing);
        let mut image = Vec::with_capacity(units);
        for (tile, row) in rows.chunks_exact(units).take(down * across).enumerate() {
            image.clear();
            image.extend_from_slice(row);
            if self.scale_rows_to_unit_interval {
                scale_to_unit_interval(&mut image);
            }
            let at = (tile / across * (height + spacing.0), tile % across * (width + spacing.1));
            raster.draw(&image, width, at, channel);
        }
        Ok(())
    }
}

/// x ← (x - min)·(1/(max - min + 1e-8)): the smallest becomes 0, the largest about 1, and equal numbers all become 0.
pub fn scale_to_unit_interval(values: &mut [f32]) {
    let min = values.iter().copied().fold(f32::INFINITY, f32::min);
    let max = values.iter().map(|x| x - min).fold(0.0, f32::max);
    let factor = 1.0 / (max + EPSILON);
    for x in values {
        *x = (*x - min) * factor;
    }
}

/// Rows of numbers as tiles of a grey picture; tile (r, c) shows row r·C + c.
///
/// `rows`: any number of rows of H·W values. Tiles without a row stay black, rows beyond R·C are not shown.
///
/// # Errors
/// [`Error::Length`] where the values are no whole number of rows, [`Error::Argument`] where an image has no pixel, or the
/// picture none or more than 2^28.
pub fn tile_raster_images<T: Pixel>(rows: &[f32], tiling: &Tiling) -> Result<Raster<T>> {
    let mut raster = tiling.canvas(1)?;
    tiling.draw(&mut raster, rows, 0)?;
    Ok(raster)
}

/// The same in colour: red, green, blue and alpha, each tiled and stretched on its own. Without rows, a colour is 0
/// everywhere and alpha opaque everywhere.
///
/// # Errors
/// Those of [`tile_raster_images`].
pub fn tile_raster_channels<T: Pixel>(channels: [Option<&[f32]>; 4], tiling: &Tiling) -> Result<Raster<T>> {
    let mut raster = tiling.canvas(4)?;
    for (channel, rows) in channels.into_iter().enumerate() {
        match rows {
            Some(rows) => tiling.draw(&mut raster, rows, channel)?,
            None if channel == 3 => raster.values.iter_mut().skip(3).step_by(4).for_each(|x| *x = T::OPAQUE),
            None => {}
        }
    }
    Ok(raster)
}

/// How the weights of a hidden unit become grey.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FilterScale {
    /// Each tile from its least weight, black, to its greatest, white: only form can be compared, not size.
    #[default]
    Own,
    /// All tiles from -m, black, to m, white, m being the greatest |w| that is shown; 0 is the grey in the middle, 127.
    Common,
}

names!(FilterScale, "scale", Own = "own", Common = "common");

/// The weights of the first R·C hidden units, each as an image, with one pixel between them. Biases are left out.
///
/// # Errors
/// [`Error::Argument`] where an image of `img_shape` has not n_visible pixels, or the picture is too large.
pub fn filters(
    rbm: RbmRef<'_>, img_shape: (usize, usize), tile_shape: (usize, usize), scale: FilterScale,
) -> Result<Raster<u8>> {
    let (n_visible, n_hidden) = (rbm.shape().n_visible(), rbm.shape().n_hidden());
    let mut tiling = Tiling::new(img_shape, tile_shape).spaced();
    check_image(img_shape, n_visible)?;
    let shown = tile_shape.0.saturating_mul(tile_shape.1).min(n_hidden);
    let mut rows: Vec<f32> = (0..shown).flat_map(|j| rbm.weights().iter().skip(j).step_by(n_hidden)).copied().collect();
    if scale == FilterScale::Common {
        tiling.scale_rows_to_unit_interval = false;
        let most = rows.iter().fold(f32::MIN_POSITIVE, |most, w| most.max(w.abs()));
        // Halves first: the sum of two great weights need not be finite.
        rows.iter_mut().for_each(|w| *w = 0.5 + 0.5 * (*w / most));
    }
    tile_raster_images(&rows, &tiling)
}

/// What chains show one time after another: a row of tiles for each time, one pixel between them, each tile stretched on
/// its own.
///
/// `means`: times × chains × H·W. The picture is (H + 1)·times + 1 by (W + 1)·chains - 1; the tutorial's canvas is so too,
/// two rows taller than the tiles need.
///
/// # Errors
/// [`Error::Length`] where the values are not times × chains images, [`Error::Argument`] where the picture is too large.
pub fn sample_sheet(means: &[f32], img_shape: (usize, usize), times: usize, chains: usize) -> Result<Raster<u8>> {
    let tiling = Tiling::new(img_shape, (1, chains)).spaced();
    let at_a_time = tiling.units()?.saturating_mul(chains);
    let expected = at_a_time.saturating_mul(times);
    if means.len() != expected {
        return Err(Error::Length { what: "means", expected, found: means.len() });
    }
    let strip: Raster<u8> = tiling.canvas(1)?;
    let height = (strip.height + 1).checked_mul(times).and_then(|h| h.checked_add(1));
    let mut sheet = Raster::new(height, Some(strip.width), 1, 0)?;
    for (time, means) in means.chunks_exact(at_a_time).enumerate() {
        let strip: Raster<u8> = tile_raster_images(means, &tiling)?;
        let first = time * (strip.height + 1) * strip.width;
        sheet.values[first..first + strip.values.len()].copy_from_slice(&strip.values);
    }
    Ok(sheet)
}

/// Fails unless an image of this height and width has `units` pixels.
pub(crate) fn check_image(img_shape: (usize, usize), units: usize) -> Result<()> {
    let (height, width) = img_shape;
    if height.checked_mul(width) == Some(units) {
        return Ok(());
    }
    Err(Error::Argument {
        what: "img_shape",
        expected: format!("height × width of {units} pixels"),
        found: format!("{height} × {width}"),
    })
}

/// Writes a picture as a PNG file, whole or not at all: grey, or colour with alpha. Equal pictures make equal files.
///
/// # Errors
/// [`Error::File`] with what the operating system says.
#[cfg(feature = "png")]
pub fn write_png(raster: &Raster<u8>, path: &std::path::Path) -> Result<()> {
    crate::storage::write_atomically(path, |file| {
        // A picture has at most 2^28 values, so its sides fit.
        let mut encoder = png::Encoder::new(file, raster.width as u32, raster.height as u32);
        encoder.set_color(if raster.channels == 4 { png::ColorType::Rgba } else { png::ColorType::Grayscale });
        encoder.set_depth(png::BitDepth::Eight);
        let mut writer = encoder.write_header()?;
        writer.write_image_data(&raster.values)?;
        Ok(writer.finish()?)
    })
}
