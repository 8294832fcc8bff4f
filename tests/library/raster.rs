//! Images, compared with small ones computed by hand.

use harmonium::{
    Error, Rbm, Shape,
    raster::{
        FilterScale, Raster, Tiling, filters, sample_sheet, scale_to_unit_interval, tile_raster_channels,
        tile_raster_images,
    },
};

fn plain(img_shape: (usize, usize), tile_shape: (usize, usize), tile_spacing: (usize, usize)) -> Tiling {
    Tiling { img_shape, tile_shape, tile_spacing, scale_rows_to_unit_interval: false }
}

#[test]
fn stretching() {
    let mut values = [-1.0, 0.0, 3.0, 1.0];
    scale_to_unit_interval(&mut values);
    assert_eq!(values, [0.0, 0.25, 1.0, 0.5]);

    let mut constant = [0.7; 5];
    scale_to_unit_interval(&mut constant);
    assert_eq!(constant, [0.0; 5]);

    // Small enough for the 1e-8 to matter.
    let mut small = [0.0, 1e-8];
    scale_to_unit_interval(&mut small);
    assert_eq!(small, [0.0, 0.5]);

    scale_to_unit_interval(&mut []);
}

/// 1/(max + 1e-8) times max is 1 or just below, and 255 times that is truncated: 255 or 254, never less.
#[test]
fn the_brightest_pixel() {
    let tiling = Tiling::new((1, 2), (1, 1));
    let brightest = |max: f32| tile_raster_images::<u8>(&[0.0, max], &tiling).unwrap().values()[1];
    let found: Vec<u8> = (1..2000).map(|n| brightest(n as f32 * 0.01)).collect();
    assert!(found.iter().all(|&x| x == 254 || x == 255));
    assert!(found.contains(&254) && found.contains(&255));
    assert_eq!(brightest(1.0), 255);
}

#[test]
fn spacing_and_missing_tiles() {
    // Five 2 × 1 images on 2 × 3 tiles, with 1 row and 2 columns between them; the sixth is missing.
    let rows: Vec<f32> = (1..=10).map(|x| x as f32).collect();
    let raster: Raster<f32> = tile_raster_images(&rows, &plain((2, 1), (2, 3), (1, 2))).unwrap();
    assert_eq!((raster.height(), raster.width(), raster.channels()), (5, 7, 1));
    #[rustfmt::skip]
    let expected = [
        1.0, 0.0, 0.0, 3.0, 0.0, 0.0, 5.0,
        2.0, 0.0, 0.0, 4.0, 0.0, 0.0, 6.0,
        0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0,
        7.0, 0.0, 0.0, 9.0, 0.0, 0.0, 0.0,
        8.0, 0.0, 0.0, 10.0, 0.0, 0.0, 0.0,
    ];
    assert_eq!(raster.values(), expected);
}

#[test]
fn rows_beyond_the_tiles_are_not_shown() {
    let raster: Raster<f32> = tile_raster_images(&[1.0, 2.0, 3.0, 4.0], &plain((1, 1), (1, 3), (0, 0))).unwrap();
    assert_eq!(raster.values(), [1.0, 2.0, 3.0]);
    let empty: Raster<f32> = tile_raster_images(&[], &plain((1, 1), (1, 3), (0, 0))).unwrap();
    assert_eq!(empty.values(), [0.0; 3]);
}

#[test]
fn each_tile_is_stretched_on_its_own() {
    let rows = [0.0, 1.0, 0.0, 0.5, 7.0, 7.0];
    let raster: Raster<u8> = tile_raster_images(&rows, &Tiling::new((1, 2), (3, 1))).unwrap();
    assert_eq!(raster.values(), [0, 255, 0, 255, 0, 0], "a constant tile is black");
}

#[test]
fn pixels_are_cut_off_and_clamped() {
    let rows = [0.0, 0.999, 1.0, 0.5, -0.1, 1.5, f32::NAN, 1e30];
    let raster: Raster<u8> = tile_raster_images(&rows, &plain((1, 8), (1, 1), (0, 0))).unwrap();
    assert_eq!(raster.values(), [0, 254, 255, 127, 0, 255, 0, 255]);
}

#[test]
fn four_channels() {
    let (red, blue) = ([0.0, 1.0, 0.5, 0.25], [1.0, 0.0]);
    let tiling = plain((1, 2), (1, 2), (0, 1));
    let pixels: Raster<u8> = tile_raster_channels([Some(&red), None, Some(&blue), None], &tiling).unwrap();
    assert_eq!((pixels.height(), pixels.width(), pixels.channels()), (1, 5, 4));
    #[rustfmt::skip]
    let expected = [
        0, 0, 255, 255,   255, 0, 0, 255,   0, 0, 0, 255,   127, 0, 0, 255,   63, 0, 0, 255,
    ];
    assert_eq!(pixels.values(), expected);

    // With an alpha channel of its own, the space between the tiles is transparent.
    let alpha = [1.0; 4];
    let numbers: Raster<f32> = tile_raster_channels([None, Some(&red), None, Some(&alpha)], &tiling).unwrap();
    #[rustfmt::skip]
    let expected = [
        0.0, 0.0, 0.0, 1.0,   0.0, 1.0, 0.0, 1.0,   0.0, 0.0, 0.0, 0.0,   0.0, 0.5, 0.0, 1.0,   0.0, 0.25, 0.0, 1.0,
    ];
    assert_eq!(numbers.values(), expected);
    let opaque: Raster<f32> = tile_raster_channels([None; 4], &tiling).unwrap();
    assert_eq!(&opaque.values()[..4], [0.0, 0.0, 0.0, 1.0]);
}

#[test]
fn filters_are_the_columns_of_the_weights() {
    // Four visible units as 2 × 2 images, three hidden units.
    #[rustfmt::skip]
    let weights = vec![
        0.0, 9.0, 5.0,
        1.0, 9.0, 5.0,
        2.0, 9.0, 5.0,
        4.0, 9.0, 1.0,
    ];
    let rbm = Rbm::from_parts(Shape::new(4, 3).unwrap(), weights, vec![8.0; 4], vec![8.0; 3]).unwrap();
    let raster = filters(rbm.view(), (2, 2), (2, 2), FilterScale::Own).unwrap();
    #[rustfmt::skip]
    let expected = [
        0,   63,  0, 0, 0,
        127, 255, 0, 0, 0,
        0,   0,   0, 0, 0,
        255, 255, 0, 0, 0,
        255, 0,   0, 0, 0,
    ];
    assert_eq!((raster.height(), raster.width()), (5, 5));
    assert_eq!(raster.values(), expected);
    assert_eq!(
        filters(rbm.view(), (4, 1), (1, 1), FilterScale::Own).unwrap().values(),
        [0, 63, 127, 255],
        "the first R·C"
    );
    assert!(matches!(
        filters(rbm.view(), (3, 1), (1, 1), FilterScale::Own),
        Err(Error::Argument { what: "img_shape", .. })
    ));
}

#[test]
fn one_scale_for_all_tiles() {
    // The greatest weight is -8, of the second unit; the third unit is not shown.
    #[rustfmt::skip]
    let weights = vec![
        0.0, -8.0, 99.0,
        4.0,  2.0, 99.0,
    ];
    let rbm = Rbm::from_parts(Shape::new(2, 3).unwrap(), weights, vec![0.0; 2], vec![0.0; 3]).unwrap();
    let raster = filters(rbm.view(), (1, 2), (1, 2), FilterScale::Common).unwrap();
    // 255·(1/2 + w/16), truncated, and the line between the tiles.
    assert_eq!(raster.values(), [127, 191, 0, 0, 159]);
    let raster = filters(rbm.view(), (1, 2), (1, 3), FilterScale::Common).unwrap();
    assert_eq!(raster.values()[6..], [255, 255], "now it is shown");
    for (size, expected) in [(0.0, 127), (-0.0, 127), (f32::MAX, 255), (-f32::MAX, 0), (f32::from_bits(1), 127)] {
        let rbm = Rbm::from_parts(Shape::new(1, 1).unwrap(), vec![size], vec![0.0], vec![0.0]).unwrap();
        let raster = filters(rbm.view(), (1, 1), (1, 1), FilterScale::Common).unwrap();
        assert_eq!(raster.values(), [expected], "{size}");
    }
    assert_eq!("common".parse::<FilterScale>().unwrap(), FilterScale::Common);
    let error = "both".parse::<FilterScale>().unwrap_err().to_string();
    assert_eq!(error, "scale: expected one of own, common, found both");
}

#[test]
fn the_tutorials_sizes() {
    let rbm = Rbm::new(Shape::new(784, 500).unwrap(), 1);
    let raster = filters(rbm.view(), (28, 28), (10, 10), FilterScale::Own).unwrap();
    assert_eq!((raster.height(), raster.width()), (289, 289));
    let sheet = sample_sheet(&vec![0.5; 200 * 784], (28, 28), 10, 20).unwrap();
    assert_eq!((sheet.height(), sheet.width()), (291, 579));
}

#[test]
fn a_sheet_has_a_line_under_each_row_and_one_more() {
    let means = [0.0, 1.0, 1.0, 0.0, 0.5, 1.0, 0.0, 0.0];
    let sheet = sample_sheet(&means, (1, 2), 2, 2).unwrap();
    assert_eq!((sheet.height(), sheet.width()), (5, 5));
    #[rustfmt::skip]
    let expected = [
        0, 255, 0, 255, 0,
        0, 0,   0, 0,   0,
        0, 255, 0, 0,   0,
        0, 0,   0, 0,   0,
        0, 0,   0, 0,   0,
    ];
    assert_eq!(sheet.values(), expected);
    assert!(matches!(sample_sheet(&means, (1, 2), 2, 3), Err(Error::Length { expected: 12, found: 8, .. })));
    assert_eq!(sample_sheet(&[], (1, 2), 0, 2).unwrap().height(), 1);
    assert!(sample_sheet(&[], (1, 2), 2, 0).is_err());
}

#[test]
fn what_is_refused() {
    let tile = |rows: &[f32], tiling: Tiling| tile_raster_images::<u8>(rows, &tiling);
    assert!(matches!(tile(&[0.0; 5], plain((1, 2), (1, 1), (0, 0))), Err(Error::Length { expected: 6, found: 5, .. })));
    for tiling in [
        plain((0, 2), (1, 1), (0, 0)),
        plain((0, 2), (3, 3), (1, 1)),
        plain((1, 2), (0, 1), (0, 0)),
        plain((1, 2), (1, 0), (5, 5)),
        plain((usize::MAX, 2), (2, 1), (0, 0)),
        plain((1, 1), (usize::MAX, 1), (1, 0)),
        plain((1, 1), (1, 1 << 29), (0, 0)),
        plain((1, 1), (1, 2), (0, usize::MAX)),
    ] {
        assert!(matches!(tile(&[], tiling), Err(Error::Argument { .. })), "{tiling:?}");
    }
}

#[cfg(feature = "png")]
#[test]
fn pngs_hold_what_they_show() {
    use std::{fs::File, io::BufReader, path::Path};
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let rows: Vec<f32> = (0..12).map(|x| x as f32).collect();
    let tiling = Tiling::new((2, 3), (1, 2)).spaced();
    let grey = tile_raster_images(&rows, &tiling).unwrap();
    let colour = tile_raster_channels([Some(&rows), None, Some(&rows), None], &tiling).unwrap();
    for (name, raster, kind) in
        [("grey.png", grey, png::ColorType::Grayscale), ("colour.png", colour, png::ColorType::Rgba)]
    {
        let path = folder.join(name);
        harmonium::raster::write_png(&raster, &path).unwrap();
        let mut reader = png::Decoder::new(BufReader::new(File::open(&path).unwrap())).read_info().unwrap();
        let mut values = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut values).unwrap();
        assert_eq!((info.height as usize, info.width as usize), (raster.height(), raster.width()));
        assert_eq!((info.color_type, info.bit_depth), (kind, png::BitDepth::Eight));
        assert_eq!(values, raster.values());
    }
}
