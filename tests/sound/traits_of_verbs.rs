use harmonium::verbs::Memory;

fn upload<D: Memory>(device: &D, rbm: harmonium::RbmRef<'_>) {
    let _ = device.upload(rbm);
}

fn main() {}
