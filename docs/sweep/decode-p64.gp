# gnuplot -e "set terminal svg; set output 'plot.svg'" THIS
set encoding utf8
set border 3 lc rgb '#555555'
set tics nomirror out
set grid lc rgb '#e4e4e4' lt 1 lw 0.6
set errorbars 0.7
set label 900 '{/:Bold Decode: tokens per second over nodes, prompts of 64 tokens}' at screen 0.015,0.965 left enhanced font 'DejaVu Sans,15'
set label 901 'moe-0.9b on network namespaces of one machine at 1gbit; 1 rank per node; --weights q4 --threads 1; 16 decode steps, medians of 3 runs' at screen 0.015,0.922 left noenhanced font 'DejaVu Sans,9.5' tc rgb '#555555'
set label 902 'Intel(R) Xeon(R) Processor @ 2.50GHz, 2 cores, 25 GB; shoal 0.1.0 (591fc547116de2d2); 2026-11-27' at screen 0.015,0.891 left noenhanced font 'DejaVu Sans,9.5' tc rgb '#555555'
set lmargin at screen 0.10
set rmargin at screen 0.845
set tmargin at screen 0.82
set bmargin at screen 0.15
set logscale xy
set xrange [0.920188:4.34694]
set yrange [21.0893:1482.09]
set xtics ("1" 1, "2" 2, "4*" 4)
set ytics ("50" 50, "100" 100, "200" 200, "500" 500, "1000" 1000)
set xlabel 'nodes' noenhanced
set ylabel 'decode tok/s, all sequences together' noenhanced
unset key
set label 990 '* nodes that share the cores of one machine, with more threads than it has cores' at screen 0.015,0.022 left noenhanced font 'DejaVu Sans,9' tc rgb '#555555'
$d0 << EOD
1 107.511 107.222 107.916
2 72.3988 32.4292 114.777
4 35.4945 27.4161 39.642
EOD
$d1 << EOD
1 107.511
4 430.044
EOD
$d2 << EOD
1 97.3161
2 50.0658
4 41.9519
EOD
set label 100 '1 sequence' at graph 1.012, first 35.4945 left noenhanced tc rgb '#0072B2' font 'DejaVu Sans,11'
$d3 << EOD
1 188.424 171.186 191.324
2 179.199 103.724 269.859
4 144.978 106.437 235.701
EOD
$d4 << EOD
1 188.424
4 753.695
EOD
$d5 << EOD
1 160.337
2 116.705
4 122.523
EOD
set label 101 '8 sequences' at graph 1.012, first 144.978 left noenhanced tc rgb '#D55E00' font 'DejaVu Sans,11'
$d6 << EOD
1 285.017 283.162 317.068
2 298.931 293.051 300.816
4 303.066 245.489 481.112
EOD
$d7 << EOD
1 285.017
4 1140.07
EOD
$d8 << EOD
1 233.741
2 251.245
4 273.43
EOD
set label 102 '32 sequences' at graph 1.012, first 303.066 left noenhanced tc rgb '#009E73' font 'DejaVu Sans,11'
set arrow 50 from screen 0.1000,0.8500 to screen 0.1380,0.8500 nohead lc rgb '#000000' lw 2
set label 860 '' at screen 0.1190,0.8500 point lc rgb '#000000' pt 7 ps 1.1
set label 870 'measured: median, min and max' at screen 0.1460,0.8500 left noenhanced font 'DejaVu Sans,10'
set arrow 51 from screen 0.4022,0.8500 to screen 0.4402,0.8500 nohead lc rgb '#888888' lw 1 dt 3
set label 871 'ideal: n times the first' at screen 0.4482,0.8500 left noenhanced font 'DejaVu Sans,10'
set arrow 52 from screen 0.6654,0.8500 to screen 0.7034,0.8500 nohead lc rgb '#000000' lw 1.6 dt 2
set label 872 'predicted by shoal plan' at screen 0.7114,0.8500 left noenhanced font 'DejaVu Sans,10'
plot $d1 using 1:2 with lines lc rgb '#888888' lw 1 dt 3 notitle, \
     $d0 using 1:2 with lines lc rgb '#0072B2' lw 2 notitle, \
     $d0 using 1:2:3:4 with yerrorbars lc rgb '#0072B2' pt 7 ps 1.1 lw 1.2 notitle, \
     $d2 using 1:2 with lines lc rgb '#0072B2' lw 1.6 dt 2 notitle, \
     $d4 using 1:2 with lines lc rgb '#888888' lw 1 dt 3 notitle, \
     $d3 using 1:2 with lines lc rgb '#D55E00' lw 2 notitle, \
     $d3 using 1:2:3:4 with yerrorbars lc rgb '#D55E00' pt 5 ps 1.1 lw 1.2 notitle, \
     $d5 using 1:2 with lines lc rgb '#D55E00' lw 1.6 dt 2 notitle, \
     $d7 using 1:2 with lines lc rgb '#888888' lw 1 dt 3 notitle, \
     $d6 using 1:2 with lines lc rgb '#009E73' lw 2 notitle, \
     $d6 using 1:2:3:4 with yerrorbars lc rgb '#009E73' pt 9 ps 1.1 lw 1.2 notitle, \
     $d8 using 1:2 with lines lc rgb '#009E73' lw 1.6 dt 2 notitle
