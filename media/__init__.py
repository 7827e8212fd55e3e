"""Read, write and draw what people look at: pictures, videos, plots and HTML pages."""
